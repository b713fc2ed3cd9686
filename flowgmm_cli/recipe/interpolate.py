"""Interpolation: `${env:NAME}`, `${env:NAME:-default}` and `${section.key}`; `$${` is a literal `${`.

A value that is exactly one `${section.key}` takes that key's value with its type, also a mapping or list. A
value that is exactly one `${env:NAME}` is read as the type that its key expects. Inside longer text both are
inserted as text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from flowgmm_cli.recipe.node import MAX_DEPTH, MAX_NODES, Node, Path, escape, format_path, make_node
from flowgmm_cli.recipe.tree import RecipeTree
from flowgmm_cli.recipe.validate import Problem
from flowgmm_cli.recipe.yaml import read_scalar

_REFERENCE = re.compile(r"\$(?P<escape>\$)\{|\$\{(?P<body>[^{}]*)\}")
_ENV = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<fallback>:-(?P<default>.*))?", re.DOTALL)
_KEY = re.compile(r"\w+(?:\.\w+)*")
_MAX_TEXT = 1_000_000  # characters that all references insert
_MAX_CHAIN = 100  # references to references


class _UnresolvedError(Exception):
    """A reference has no value; the message is empty if the problem is recorded already."""


class Interpolation:
    """Resolves all references of one recipe tree, in place.

    In a tree of `Recipe.to_stored`, a reference without a value stays: not every use of a run needs it.
    """

    def __init__(self, tree: RecipeTree, environ: Mapping[str, str], *, stored: bool = False) -> None:
        self.stored = stored
        self.tree = tree
        self.environ = environ
        self.problems: list[Problem] = []  # references without a value, at their own place
        self.failed: set[Path] = set()  # the paths of all values that could not be resolved
        self.env: dict[str, str] = {}  # the variables whose values were inserted
        self._active: dict[int, Path] = {}  # by the ids of the nodes that are being resolved
        self._done: set[int] = set()  # ids of nodes, resolved or failed; the tree keeps the nodes
        self._values = self._characters = 0  # inserted so far

    def run(self) -> None:
        """Resolve every string of the tree."""
        for path, node in list(self.tree.root.walk()):
            with contextlib.suppress(_UnresolvedError):  # recorded already
                self._resolve(node, path)

    def _resolve(self, node: Node, path: Path) -> None:
        if path in self.failed:
            raise _UnresolvedError
        if id(node) in self._done:
            return
        if id(node) in self._active:
            chain = " -> ".join(map(format_path, [*self._active.values(), path]))
            raise _UnresolvedError(f"refers to itself: {chain}")
        if len(self._active) > _MAX_CHAIN:
            raise _UnresolvedError(f"ends a chain of more than {_MAX_CHAIN} references to references")
        self._active[id(node)] = path
        try:
            if isinstance(node.value, str) and "${" in node.value:
                self._substitute(node, node.value)
        except _UnresolvedError as error:
            if self.stored and isinstance(node.value, str):
                node.template = node.value
                return
            if str(error):
                self.problems.append(Problem(path, str(error), node.mark, node.replaced))
            self.failed.add(path)
            raise _UnresolvedError from error
        finally:
            del self._active[id(node)]
            self._done.add(id(node))

    def _substitute(self, node: Node, text: str) -> None:
        whole = _REFERENCE.fullmatch(text)
        if whole and not whole["escape"]:
            referent = self._look_up(whole["body"])
            node.value, node.raw, node.template = referent.value, referent.raw, referent.template
            return
        if "${" in _REFERENCE.sub(" ", text):
            raise _UnresolvedError("a `${` without its `}`; write `$${` for the two characters themselves")
        value, template, end = "", "", 0
        for match in _REFERENCE.finditer(text):
            before, end = text[end : match.start()], match.end()
            inserted, name = self._insert(match)
            value, template = value + before + inserted, template + before + name
        node.value, node.template = value + text[end:], template + text[end:]

    def _insert(self, match: re.Match[str]) -> tuple[str, str]:
        """Return the text to insert and its template."""
        if match["escape"]:
            text, template = match[0][1:], match[0]
        else:
            referent = self._look_up(match["body"])
            text = _as_text(referent, match[0])
            template = escape(text) if referent.template is None else referent.template
        self._count(characters=len(text))
        return text, template

    def _count(self, *, values: int = 0, characters: int = 0) -> None:
        """Refuse references that multiply each other."""
        self._values += values
        self._characters += characters
        if self._values > MAX_NODES or self._characters > _MAX_TEXT:
            raise _UnresolvedError(
                f"the references up to here insert more than {MAX_NODES:,} values or {_MAX_TEXT:,} characters"
            )

    def _look_up(self, body: str) -> Node:
        env = _ENV.fullmatch(body)
        if env:
            return self._environment(body, env["name"], env["default"])
        if not _KEY.fullmatch(body):
            raise _UnresolvedError(
                f"cannot read `${{{body}}}`; write ${{env:NAME}}, ${{env:NAME:-default}} or ${{section.key}}"
            )
        node = self.tree.root
        path: Path = ()
        for part in body.split("."):
            path = (*path, int(part) if isinstance(node.value, list) and part.isdecimal() else part)
            self.tree.write_default(path)
            child = node.child(path[-1])
            if child is None:
                raise _UnresolvedError(f"`${{{body}}}` refers to a key that the recipe does not have")
            self._resolve(child, path)
            node = child
        for below, child in list(node.walk(path)):
            self._resolve(child, below)
        level = len(next(reversed(self._active.values()))) - len(path)
        for below, _ in node.walk(path):
            self._count(values=1)
            if level + len(below) > MAX_DEPTH:
                raise _UnresolvedError(f"nests values too deeply (more than {MAX_DEPTH} levels)")
        copy = node.copy()
        self._done.update(id(child) for _, child in copy.walk())
        return copy

    def _environment(self, body: str, name: str, default: str | None) -> Node:
        text = self.environ.get(name, "")
        if text:
            self.env[name] = text
        elif default is None:
            state = "empty" if name in self.environ else "not set"
            raise _UnresolvedError(f"the environment variable {name} is {state}")
        else:
            text = default
        return Node(read_scalar(text), raw=text, template=f"${{{body}}}")


def variable_names(value: object) -> set[str]:
    """Return the names of the environment variables that the texts in plain values refer to."""
    texts = [node.value for _, node in make_node(value).walk() if isinstance(node.value, str)]
    bodies = [_ENV.fullmatch(match["body"] or "") for text in texts for match in _REFERENCE.finditer(text)]
    return {body["name"] for body in bodies if body}


def _as_text(referent: Node, reference: str) -> str:
    if isinstance(referent.value, dict | list):
        raise _UnresolvedError(f"`{reference}` is not a single value, so it cannot stand inside text")
    if referent.raw is not None:
        return referent.raw
    if isinstance(referent.value, bool):
        return str(referent.value).lower()
    return "" if referent.value is None else str(referent.value)

"""Changes of a recipe: the words `key.path=value` and `key.path!` after it, and its overlays.

A word's value is read as in the file. Overlays are named variants of a recipe, in the recipe, such as one for
machines without a GPU:

    overlays:
      cpu:
        flow.hidden: 32
        train: {epochs: 10}

An entry is applied like a word, with one difference: a mapping without `use` for a section or component
changes the keys it has and leaves the others. A mapping with `use` is a whole component, and a list replaces
the list before it. `key.path!:` removes a key.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.messages import shorten
from flowgmm_cli.recipe.node import (
    DEFAULT,
    MAX_DEPTH,
    Mark,
    Node,
    Path,
    describe,
    format_path,
    make_node,
    parse_index,
)
from flowgmm_cli.recipe.validate import Problem
from flowgmm_cli.recipe.yaml import read_scalar, read_yaml

FORM = "an override is `key.path=value`, or `key.path!` to remove a key; for example train.epochs=5"
OVERLAYS_KEY = "overlays"
_OVERLAY_NAME = re.compile(r"\w[\w.+-]*")


@dataclass(frozen=True)
class Change:
    """A new value for one key, or its removal.

    Attributes:
        word: the word on the command line, or the key in the overlay.
        path: the key.
        value: the new value; None to remove the key.
        mark: the place of the change.
        merges: a mapping without `use` changes the keys it has and leaves the others of its section.
    """

    word: str
    path: Path
    value: Node | None
    mark: Mark = DEFAULT
    merges: bool = False

    def rank(self) -> tuple[int, ...]:
        """Return the turn of the change, see `RecipeTree.apply`; removals come last."""
        if self.value is None:
            return 1, -len(self.path), *(-(parse_index(key) or 0) for key in self.path)
        return 0, len(self.path), self.path[-1] != "use"


# --- words of the command line ----------------------------------------------------------------------------


def read_word(word: str) -> Change:
    """Read a word of the command line."""
    key, equals, text = word.partition("=")
    removes = not equals and key.endswith("!")
    if not (equals or removes):
        raise RecipeError(f"cannot read the override `{shorten(word)}`", hint=FORM)
    path = _split_key(key[:-1] if removes else key, word)
    return Change(word, path, None if removes else _read_value(word, text.strip()), Mark(word=word))


def make_changes(values: Mapping[str, Any]) -> list[Change]:
    """Make changes of Python values by `key.path`; they act like words of the command line."""
    changes = []
    for key, value in values.items():
        text = json.dumps(value, ensure_ascii=False)
        word = f"{key}={text}"
        node = make_node(value, Mark(word=word))
        node.raw = None if isinstance(value, str | list | tuple | Mapping) else text
        changes.append(Change(word, _split_key(key, word), node, node.mark))
    return changes


def _split_key(key: str, word: str) -> Path:
    parts = key.strip().split(".")
    if not all(parts) or len(parts) > MAX_DEPTH:
        raise RecipeError(f"cannot read the override `{shorten(word)}`", hint=FORM)
    return tuple(parts)


def _read_value(word: str, text: str) -> Node:
    mark = Mark(word=word)
    if text[:1] not in ("'", '"', "[", "{"):
        return Node(read_scalar(text), mark, raw=text)
    try:
        return read_yaml(text, "value").copy(mark)
    except RecipeError as error:
        reason = error.message.partition("  ")[2] or error.message
        raise RecipeError(f"cannot read the value of `{shorten(word)}`: {reason}", hint=FORM) from error


# --- overlays ---------------------------------------------------------------------------------------------


def pop_overlays(root: Node) -> tuple[dict[str, Node], list[Problem]]:
    """Remove the overlays from a recipe; return them by name, and malformed ones as problems."""
    section = root.value.pop(OVERLAYS_KEY, None) if isinstance(root.value, dict) else None
    if section is None or section.value is None:
        return {}, []
    if not isinstance(section.value, dict):
        message = f"expected a mapping of names to changes, got {describe(section.plain())}"
        return {}, [Problem((OVERLAYS_KEY,), message, section.mark)]
    overlays: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, node in section.value.items():
        if not _OVERLAY_NAME.fullmatch(name):
            message = "the name of an overlay has letters, digits, `_`, `-`, `.` and `+` only"
        elif not isinstance(node.value, dict):
            message = f"expected a mapping such as `{{train.epochs: 5}}`, got {describe(node.plain())}"
        else:
            for _, child in node.walk():
                child.mark = replace(child.mark, overlay=name)
            overlays[name] = node
            continue
        problems.append(Problem((OVERLAYS_KEY, name), message, node.mark))
    return overlays, problems


def require_overlays(names: Sequence[str], known: Mapping[str, Node], source: str) -> None:
    """Raise `RecipeError` if the recipe `source` does not have one of the named overlays."""
    for name in names:
        if not known:
            raise RecipeError(f"there is no overlay `{name}`: {source} has no overlays")
        if name not in known:
            raise RecipeError(
                f"{source} has no overlay `{name}`{did_you_mean(name, known)}; known: {', '.join(known)}",
                hint=f"--overlay {next(iter(known))}",
            )


def read_entry(key: str, value: Node, section: Path = ()) -> Change:
    """Read an entry of an overlay, or of a mapping in it for `section`."""
    path = format_path((*section, key))
    parts = key.removesuffix("!").split(".")
    removes = key.endswith("!")
    if not all(part.strip() for part in parts) or len(section) + len(parts) > MAX_DEPTH:
        raise RecipeError(f"cannot read the key `{shorten(key)}`; a key is `section.key`, like train.epochs")
    if removes and value.value is not None:
        raise RecipeError(f"`{path}` removes a key, so it takes no value")
    if (*section, *parts)[0] == OVERLAYS_KEY:
        raise RecipeError("an overlay cannot change the overlays")
    return Change(path, (*section, *parts), None if removes else value, value.mark, merges=True)

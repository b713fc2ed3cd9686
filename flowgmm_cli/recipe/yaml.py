"""A safe YAML reader that keeps the place of every value, and reads numbers as people write them.

Scalars follow YAML 1.2 rather than PyYAML's 1.1: `3e-4` and `1_000` are numbers, `010` is ten, only `true`
and `false` are booleans (`yes`, `no`, `on`, `off` are strings), dates and `12:30:45` are strings. Duplicate
keys, tags, and documents that grow without bound are refused. The result holds plain values only.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.node import MAX_DEPTH, MAX_NODES, Mark, Node, Scalar

MAX_BYTES = 1_000_000
_MAX_INT = 2**63  # larger whole numbers become floats, which no key for whole numbers takes

_TAG = "tag:yaml.org,2002:"
_SCALARS = ("int", "float", "bool", "null")
_INT = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
_HEX = re.compile(r"[-+]?0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"""[-+]?(?:
        (?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
        | \.?(?:inf|Inf|INF)
    ) | \.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")

_HINT = (
    "indent with spaces, put a space after the colon of `key: value`, and quote text with `: ` or ` #` in it"
)

_ADVICE = {
    "mapping values are not allowed here": "text with `: ` inside needs quotes; or look at the line above",
    "found character '\\t' that cannot start any token": "a tab; YAML indents with spaces",
    "found character '@' that cannot start any token": "text that begins with `@` needs quotes",
    "found character '`' that cannot start any token": "text that begins with a backtick needs quotes",
    "found character '%' that cannot start any token": "text that begins with `%` needs quotes",
    "expected ',' or '}', but got '{'": "between `{` and `}`, write `${...}` in quotes",
    "expected ',' or ']', but got '{'": "between `[` and `]`, write `${...}` in quotes",
    "expected <block end>, but found '<block mapping start>'": "the indentation does not fit the lines above",
    "could not find expected ':'": "a key without `: ` after it",
    "but found another document": "a recipe is one document; remove the `---` line",
}


class _Loader(yaml.SafeLoader):
    """PyYAML's scanner and parser, for nodes only, never for Python objects; plain scalars get no tag."""

    yaml_implicit_resolvers = {None: [(None, re.compile(""))]}  # noqa: RUF012 - PyYAML's name and type


class _Dumper(yaml.SafeDumper):
    """Quotes every string that our reader or a YAML 1.1 reader would read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = None if isinstance(read_scalar(data), str) else "'"
        return self.represent_scalar(_TAG + "str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


def read_text(path: Path) -> str:
    """Read a recipe file as text."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{path} is larger than {MAX_BYTES:,} bytes, which no recipe needs")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}  not UTF-8 text", hint="save the file as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error


def read_yaml(text: str, source: str) -> Node:
    """Read one YAML document; `source` is its name in messages: the path as the user gave it.

    Raises `RecipeError` if the text is not YAML, or has something that is refused (see above).
    """
    if len(text) > MAX_BYTES:
        raise RecipeError(f"{source} is larger than {MAX_BYTES:,} characters, which no recipe needs")
    loader = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        return _Builder(source).build(root) if root is not None else Node(None, Mark(1, 1))
    except yaml.MarkedYAMLError as error:
        raise RecipeError(_syntax_message(error, source), hint=_HINT) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{source}:{line}  an unprintable character ({error.character!r})") from error
    except RecursionError as error:
        raise RecipeError(f"{source} is nested too deeply (more than {MAX_DEPTH} levels)") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_scalar(text: str) -> Scalar:
    """Read one unquoted scalar: null, true, false, a number, or else a string.

    >>> read_scalar("3e-4"), read_scalar("1_000"), read_scalar("010"), read_scalar("yes"), read_scalar("~")
    (0.0003, 1000, 10, 'yes', None)
    """
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return _whole_number(int(text)) if len(text) < 1000 else float(text)
    if _HEX.fullmatch(text):
        return _whole_number(int(text, 16))
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _whole_number(number: int) -> int | float:
    if abs(number) < _MAX_INT:
        return number
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def write_yaml(value: Any) -> str:
    """Write plain values so that `read_yaml` gives the same values back; keys keep their order."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, default_flow_style=False
    )
    return text


def write_flow(value: Any) -> str:
    """Write plain values on one line, as in an override on the command line.

    >>> write_flow([{"use": "noise", "scale": 0.1}]), write_flow(None), write_flow(0.5)
    ('[{use: noise, scale: 0.1}]', 'null', '0.5')
    """
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return text.removesuffix("...\n").strip()


class _Builder:
    """Turns PyYAML's nodes into ours. Aliases are copied, so the values are counted."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0

    def build(self, node: yaml.Node, mark: Mark | None = None, depth: int = 0) -> Node:
        mark = mark or _mark(node)
        self.count += 1
        if self.count > MAX_NODES:
            raise self.error(mark, f"more than {MAX_NODES:,} values (aliases that multiply?)")
        if depth > MAX_DEPTH:
            raise self.error(mark, f"nested too deeply (more than {MAX_DEPTH} levels)")
        if node.tag is None:
            return Node(read_scalar(node.value), mark)
        tag = node.tag.removeprefix(_TAG)
        if isinstance(node, yaml.MappingNode) and tag == "map":
            return Node(self.mapping(node, depth), mark)
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            return Node([self.build(item, None, depth + 1) for item in node.value], mark)
        if isinstance(node, yaml.ScalarNode):
            value = node.value if tag == "str" else read_scalar(node.value)
            if tag == "str" or (tag in _SCALARS and not isinstance(value, str)):
                return Node(value, mark)
        shown = "!!" + tag if node.tag.startswith(_TAG) else node.tag
        raise self.error(mark, f"the tag `{shown}` is not allowed; recipes hold plain values only")

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key_node, value_node in node.value:
            mark = _mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(mark, "a key must be a single word or number")
            key = str(key_node.value)
            if key == "<<" and key_node.tag is None:
                for key, child in self.merge(value_node, depth).items():
                    merged.setdefault(key, child)
                continue
            if key in own:
                message = f"`{key}` is given twice; the first is at line {own[key].mark.line}"
                raise self.error(mark, message, "keep one of them")
            own[key] = self.build(value_node, mark, depth + 1)
        return {**merged, **own}

    def merge(self, node: yaml.Node, depth: int) -> dict[str, Node]:
        """Return the entries of the mappings after `<<`; the first mapping with a key wins."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Node] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise self.error(_mark(node), "`<<` takes a mapping or a list of mappings")
            for key, child in self.build(part, None, depth + 1).children().items():
                merged.setdefault(key, child)
        return merged

    def error(self, mark: Mark, message: str, hint: str = _HINT) -> RecipeError:
        return RecipeError(f"{self.source}:{mark.line}:{mark.column}  {message}", hint=hint)


def _mark(node: yaml.Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_message(error: yaml.MarkedYAMLError, source: str) -> str:
    problem = error.problem or error.context or "not YAML"
    mark = error.problem_mark or error.context_mark
    where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    advice = _ADVICE.get(problem)
    return f"{where}  {problem}" + (f" ({advice})" if advice else "")

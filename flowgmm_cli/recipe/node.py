"""The tree a recipe is read into: plain values with their places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from flowgmm_cli.api import plain_value

Path: TypeAlias = tuple[str | int, ...]
Scalar: TypeAlias = str | int | float | bool | None

MAX_NODES = 100_000  # values of a recipe
MAX_DEPTH = 64  # levels of a recipe


@dataclass(frozen=True)
class Mark:
    """A place: a line and column of the file (from 1), the command line, or neither (a default)."""

    line: int = 0  # line and column are 0 where the value is not in the file
    column: int = 0
    word: str | None = None  # the override that set the value
    overlay: str | None = None  # the overlay that set the value; the place is that in the overlay


DEFAULT = Mark()
"""The mark of values that stand neither in the file nor on the command line."""


@dataclass
class Node:
    """A value of a recipe.

    Attributes:
        value: a scalar, a list of nodes or a mapping of nodes.
        mark: the place of the value; for an entry of a mapping, that of its key.
        raw: the text of a scalar from the command line or an environment variable, where YAML's quotes are
            not at hand. Such text is read as the type that its key expects.
        replaced: the value in the file, if an override or overlay replaced it.
        template: the text that gives the value when it is interpolated again, where that is not the value
            itself: environment variables stand in it by name.
    """

    value: Scalar | list[Node] | dict[str, Node]
    mark: Mark = DEFAULT
    raw: str | None = None
    replaced: Node | None = None
    template: str | None = None

    def plain(self) -> Any:
        """Return the value without the marks."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value

    def children(self) -> dict[Any, Node]:
        """Return the entries of a mapping, or the items of a list by number."""
        if isinstance(self.value, dict):
            return self.value
        return dict(enumerate(self.value)) if isinstance(self.value, list) else {}

    def child(self, key: str | int) -> Node | None:
        """Return the entry of a mapping or the item of a list; None if it does not exist."""
        return self.children().get(parse_index(key) if isinstance(self.value, list) else str(key))

    def get(self, path: Path) -> Node | None:
        """Return the node at a path below this one; None if it does not exist."""
        node: Node | None = self
        for key in path:
            node = node.child(key) if node is not None else None
        return node

    def walk(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """Yield this node and all nodes below it with their paths, parents first."""
        yield path, self
        for key, child in self.children().items():
            yield from child.walk((*path, key))

    def copy(self, mark: Mark | None = None) -> Node:
        """Return a deep copy; with `mark`, all of its nodes get that mark."""
        value: Any = self.value
        if isinstance(value, dict):
            value = {key: child.copy(mark) for key, child in value.items()}
        elif isinstance(value, list):
            value = [child.copy(mark) for child in value]
        return replace(self, value=value, mark=mark or self.mark)


def make_node(value: Any, mark: Mark = DEFAULT) -> Node:
    """Make a tree of Python values.

    Types that YAML does not have take their nearest form: tuples and sets become lists, paths strings, enum
    members their values.
    """
    value = plain_value(value)
    if isinstance(value, dict):
        value = {key: make_node(item, mark) for key, item in value.items()}
    elif isinstance(value, list):
        value = [make_node(item, mark) for item in value]
    return Node(value, mark)


def escape(text: str) -> str:
    """Return the template of a text without references.

    >>> escape("${x}")
    '$${x}'
    """
    return text.replace("${", "$${")


def parse_index(key: str | int) -> int | None:
    """Read a list index; None if `key` is not one.

    >>> parse_index("2"), parse_index("-1"), parse_index("two")
    (2, None, None)
    """
    if isinstance(key, int):
        return key if key >= 0 else None
    return int(key) if key.isascii() and key.isdigit() else None


def format_path(path: Path) -> str:
    """Return a path as recipes and the command line write it.

    >>> format_path(("regularisers", 0, "weight"))
    'regularisers.0.weight'
    """
    return ".".join(str(key) for key in path)


def describe(value: Any) -> str:
    """Describe a value for a message.

    >>> describe("fast"), describe(True), describe(2), describe([1]), describe(None)
    ('the string "fast"', 'true', 'the number 2', 'a list', 'nothing')
    """
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f'the string "{value if len(value) <= 60 else value[:57] + "..."}"'
    if isinstance(value, dict):
        return "a mapping"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"

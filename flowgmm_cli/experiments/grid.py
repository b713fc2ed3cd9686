"""Words of a sweep: `key=a,b` is an axis of the grid, `key=a` a fixed override."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowgmm_cli.errors import UsageError

MOST = 10_000
"""More combinations than this are a slip of the keyboard."""

_FORM = "values are separated by commas: flow.couplings=2,4,6; quote one that holds a comma"


@dataclass(frozen=True)
class Axis:
    """One key and the values it takes, as texts."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The words of a sweep.

    Attributes:
        fixed: overrides of every run, as given.
        axes: what varies, in the order given.
    """

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]

    def __len__(self) -> int:
        result = 1
        for axis in self.axes:
            result *= len(axis.values)
        return result

    def combinations(self) -> Iterator[dict[str, str]]:
        """Every combination as key -> value; the last axis varies fastest."""
        for values in itertools.product(*(axis.values for axis in self.axes)):
            yield {axis.key: value for axis, value in zip(self.axes, values, strict=True)}


def read_grid(words: Sequence[str]) -> Grid:
    """Divide words into axes and fixed overrides.

    >>> read_grid(["train.epochs=5", "flow.couplings=2,4"]).axes
    (Axis(key='flow.couplings', values=('2', '4')),)

    Raises:
        UsageError: nothing varies, a value is empty or there twice, a key is there twice, or there are more
            than `MOST` combinations.
    """
    fixed: list[str] = []
    axes: list[Axis] = []
    for word in words:
        key, equals, text = word.partition("=")
        values = split_values(text)
        if not equals or len(values) == 1:
            fixed.append(word)
            continue
        if not all(values):
            raise UsageError(f"`{word}` has an empty value", hint=_FORM)
        if len(set(values)) < len(values):
            raise UsageError(f"`{word}` names a value twice", hint=_FORM)
        axes.append(Axis(key.strip(), tuple(values)))
    keys = [axis.key for axis in axes]
    given = keys + [word.partition("=")[0].strip() for word in fixed if "=" in word]
    for key in keys:
        if given.count(key) > 1:
            raise UsageError(f"`{key}` is there twice", hint=_FORM)
    grid = Grid(tuple(fixed), tuple(axes))
    if not axes:
        raise UsageError("a sweep varies at least one key", hint=_FORM)
    if len(grid) > MOST:
        raise UsageError(f"the grid has {len(grid):,} combinations, more than {MOST:,}", hint=_FORM)
    return grid


def split_values(text: str) -> list[str]:
    """Split at the commas that stand in no quotes and no brackets.

    >>> split_values("labelled, 'a,b',[1, 2],{use: x, y: 1}")
    ['labelled', "'a,b'", '[1, 2]', '{use: x, y: 1}']
    """
    parts, start, depth, quote, before = [], 0, 0, "", ","
    position = 0
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\" and quote == '"':
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"" and before in ",[{:":  # an apostrophe inside a word opens nothing
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[start:position].strip())
            start = position + 1
        if not char.isspace():
            before = char
        position += 1
    return [*parts, text[start:].strip()]

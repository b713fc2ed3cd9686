"""Arguments of a sweep: `key=a,b` is an axis of the grid, `key=a` a fixed override; and lists of integers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flowgmm_cli.errors import UsageError

MAX_VALUES = 10_000  # a longer list or a larger grid is a typing error

_GRID_HINT = "values are separated by commas: flow.couplings=2,4,6; quote one that holds a comma"


@dataclass(frozen=True)
class Axis:
    """A key and its values as texts."""

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class ParameterGrid:
    """The arguments of a sweep."""

    fixed: tuple[str, ...]  # overrides of every run, as given
    axes: tuple[Axis, ...]  # keys that vary, in the order given

    def __len__(self) -> int:
        return math.prod(len(axis.values) for axis in self.axes)

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield every combination as key -> value; the last axis varies fastest."""
        for values in itertools.product(*(axis.values for axis in self.axes)):
            yield {axis.key: value for axis, value in zip(self.axes, values, strict=True)}


def read_grid(arguments: Sequence[str]) -> ParameterGrid:
    """Separate arguments into axes and fixed overrides.

    >>> read_grid(["train.epochs=5", "flow.couplings=2,4"]).axes
    (Axis(key='flow.couplings', values=('2', '4')),)

    Raises:
        UsageError: no key varies, a value is empty or repeated, a key is repeated, or there are more than
            `MAX_VALUES` combinations.
    """
    fixed: list[str] = []
    axes: list[Axis] = []
    for argument in arguments:
        key, equals, text = argument.partition("=")
        values = split_values(text)
        if not equals or len(values) == 1:
            fixed.append(argument)
            continue
        if not all(values):
            raise UsageError(f"`{argument}` has an empty value", hint=_GRID_HINT)
        if len(set(values)) < len(values):
            raise UsageError(f"`{argument}` repeats a value", hint=_GRID_HINT)
        axes.append(Axis(key.strip(), tuple(values)))
    keys = [axis.key for axis in axes] + [text.partition("=")[0].strip() for text in fixed if "=" in text]
    for axis in axes:
        if keys.count(axis.key) > 1:
            raise UsageError(f"`{axis.key}` is given twice", hint=_GRID_HINT)
    grid = ParameterGrid(tuple(fixed), tuple(axes))
    if not axes:
        raise UsageError("a sweep varies at least one key", hint=_GRID_HINT)
    if len(grid) > MAX_VALUES:
        raise UsageError(
            f"the grid has {len(grid):,} combinations, more than {MAX_VALUES:,}", hint=_GRID_HINT
        )
    return grid


def split_values(text: str) -> list[str]:
    """Split at the commas outside of quotes and brackets.

    >>> split_values("labelled, 'a,b',[1, 2],{use: x, y: 1}")
    ['labelled', "'a,b'", '[1, 2]', '{use: x, y: 1}']
    """
    parts, start, depth, quote, previous = [], 0, 0, "", ","
    position = 0
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\" and quote == '"':
                position += 1
            elif char == quote:
                quote = ""
        elif char in "'\"" and previous in ",[{:":  # an apostrophe inside a word is no quote
            quote = char
        elif char in "[{":
            depth += 1
        elif char in "]}":
            depth -= 1
        elif char == "," and depth <= 0:
            parts.append(text[start:position].strip())
            start = position + 1
        if not char.isspace():
            previous = char
        position += 1
    return [*parts, text[start:].strip()]


def parse_integers(text: str, flag: str, *, minimum: int = 0) -> list[int]:
    """Parse a list of integers and ranges such as `0..4,7`; ranges include both ends, repeats count once.

    >>> parse_integers("0..2,7", "--seeds")
    [0, 1, 2, 7]

    Args:
        text: integers and ranges, separated by commas.
        flag: option of the command line, for messages.
        minimum: smallest integer allowed.

    Raises:
        UsageError: the text is no such list, or a number is below `minimum`.
    """

    def error(reason: str) -> UsageError:
        hint = f"for example {flag} 0..4, {flag} 20,50,100 or {flag} 3"
        return UsageError(f"{flag} {text}: {reason}", hint=hint)

    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d[\d_]*)\s*(?:\.\.\s*(\d[\d_]*)\s*)?", part, re.ASCII)
        if match is None:
            raise error(f"`{part.strip()}` is neither a number nor a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise error(f"the range `{part.strip()}` runs backwards")
        if last - first >= MAX_VALUES:
            raise error(f"the range `{part.strip()}` has more than {MAX_VALUES:,} numbers")
        if first < minimum:
            raise error(f"{first} is below {minimum}")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))

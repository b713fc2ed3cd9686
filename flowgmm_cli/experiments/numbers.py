"""Lists of whole numbers on the command line: `0..4`, `0,2,5`, `3`."""

from __future__ import annotations

import re

from flowgmm_cli.errors import UsageError

MOST = 10_000
"""More numbers than this in one list are a slip of the keyboard."""


def parse_numbers(text: str, flag: str, *, least: int = 0) -> list[int]:
    """Read a list of whole numbers; a range includes both ends, and a number given twice counts once.

    >>> parse_numbers("0..2,7", "--seeds")
    [0, 1, 2, 7]

    Args:
        text: single numbers and ranges, separated by commas.
        flag: where it stands, for messages.
        least: the smallest number allowed.

    Raises:
        UsageError: it is no such list, or a number is below `least`.
    """
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d[\d_]*)\s*(?:\.\.\s*(\d[\d_]*)\s*)?", part, re.ASCII)
        if match is None:
            raise _wrong(flag, text, f"`{part.strip()}` is neither a number nor a range")
        first = int(match[1])
        last = int(match[2]) if match[2] else first
        if last < first:
            raise _wrong(flag, text, f"the range `{part.strip()}` runs backwards")
        if last - first >= MOST:
            raise _wrong(flag, text, f"the range `{part.strip()}` has more than {MOST:,} numbers")
        if first < least:
            raise _wrong(flag, text, f"{first} is below {least}")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def _wrong(flag: str, text: str, why: str) -> UsageError:
    return UsageError(f"{flag} {text}: {why}", hint=f"for example {flag} 0..4, {flag} 20,50,100 or {flag} 3")

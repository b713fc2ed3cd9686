"""Rows that cannot be read: what is wrong with them, and whether that ends the reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.api import Column, DataContext
from flowgmm_cli.data.readers.schema import OnError
from flowgmm_cli.errors import DataError

_KEEP = "or keep such rows without an answer: --on-error keep"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a row.

    Attributes:
        what: the finding, without the place.
        hint: what to do about it.
    """

    what: str
    hint: str = "correct it"


def settle(
    faults: Mapping[int, Fault], *, name: str, place: Callable[[int], str], on_error: OnError
) -> dict[int, str]:
    """Return the problems of a chunk, position -> text.

    Args:
        faults: by position.
        name: the input's.
        place: position -> `line 17`, `row 3`, or the name of an image.
        on_error: what becomes of such rows.

    Raises:
        DataError: there is a fault, and `on_error` is `fail`; it is the first one.
    """
    if faults and on_error == "fail":
        first = min(faults)
        where, what = place(first), faults[first].what
        number = where.removeprefix("line ")
        place_in = f"{name}:{number}" if number != where else f"{name}, {where}"
        raise DataError(f"{place_in}: {what}", hint=f"{faults[first].hint}, {_KEEP}")
    return {position: f"{place(position)}: {faults[position].what}" for position in sorted(faults)}


def once(context: DataContext) -> Callable[[str], None]:
    """Return a `note` that says the same thing only once."""
    said: set[str] = set()

    def note(text: str) -> None:
        if text not in said:
            said.add(text)
            context.note(text)

    return note


def chunk_size(chunk_rows: int, columns: tuple[Column, ...]) -> int:
    """Rows to take at once: `chunk_rows`, but fewer of wide ones, so that a chunk stays below some 32 MiB."""
    width = 0
    for column in columns:
        entries = 1
        for axis in column.shape:
            entries *= axis
        width += entries
    return max(1, min(chunk_rows, 4 * 2**20 // max(width, 1)))


@contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Turn the errors of libraries that read files into ours.

    Raises:
        DataError: whatever went wrong.
    """
    import zipfile
    import zlib

    import pyarrow as pa

    arrow: type[Exception] = pa.ArrowException
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, arrow) as error:
        raise DataError(
            f"{name} cannot be read as {what}: {first_line(error)}",
            hint="the file is damaged, cut short or of another type; make it again, or name its type with "
            "--data-format",
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    lines: list[Any] = str(error).strip().splitlines()
    return str(lines[0]) if lines else type(error).__name__

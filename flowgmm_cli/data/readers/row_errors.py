"""Errors of single rows and of whole inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from flowgmm_cli.data.messages import first_line
from flowgmm_cli.data.readers.base import OnError
from flowgmm_cli.errors import DataError

_KEEP_HINT = "or keep such rows without an answer: --on-error keep"
NOT_UTF8 = "not UTF-8 text"
NOT_UTF8_HINT = "save the file as UTF-8"


@dataclass(frozen=True)
class RowError:
    """Description of a malformed row: the problem, without the place, and advice to the user."""

    message: str
    hint: str = "correct it"


def raise_or_skip(
    errors: Mapping[int, RowError], *, name: str, locate: Callable[[int], str], on_error: OnError
) -> dict[int, str]:
    """Raise the first error of a chunk if `on_error` is `fail`, else return position -> place and message.

    `locate` gives the place of a position in the input: `line 17`, `row 3`, or the name of an image.
    """
    if errors and on_error == "fail":
        position = min(errors)
        error, place = errors[position], locate(position)
        number = place.removeprefix("line ")
        where = f"{name}:{number}" if number != place else f"{name}, {place}"
        raise DataError(f"{where}: {error.message}", hint=f"{error.hint}, {_KEEP_HINT}")
    return {position: f"{locate(position)}: {errors[position].message}" for position in sorted(errors)}


@contextmanager
def translate_errors(name: str, format: str) -> Iterator[None]:
    """Turn the errors of libraries that read files into `DataError`."""
    import zipfile
    import zlib

    import pyarrow as pa

    arrow: type[Exception] = pa.ArrowException
    try:
        yield
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, arrow) as error:
        raise DataError(
            f"{name} cannot be read as {format}: {first_line(error)}",
            hint="the file is damaged, cut short or of another type; make it again, or name its type with "
            "--data-format",
        ) from error

"""Where bytes come from: a file, which can be read again, or standard input, which cannot. Unzips gzip."""

from __future__ import annotations

import gzip
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.errors import DataError, UsageError

STDIN = "-"
_GZIP = b"\x1f\x8b"


@dataclass
class ByteSource:
    """Bytes that can be opened.

    Attributes:
        name: what to call them in messages.
        path: the file; None for standard input.
        again: whether they can be opened more than once.
    """

    name: str
    path: Path | None
    again: bool
    _opened: bool = field(default=False, init=False)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without a last `.gz`; '' for standard input."""
        if self.path is None:
            return ""
        stem = self.path.with_suffix("") if self.path.suffix.lower() == ".gz" else self.path
        return stem.suffix.lower()

    def open(self) -> BinaryIO:
        """Open the bytes, unzipped.

        Raises:
            DataError: they were read before and cannot be read again.
        """
        if self._opened and not self.again:
            raise DataError(f"{self.name} can be read only once", hint="write it to a file and name the file")
        self._opened = True
        raw = _stdin() if self.path is None else self.path.open("rb")
        buffered = cast(
            io.BufferedReader, raw if hasattr(raw, "peek") else io.BufferedReader(cast(io.RawIOBase, raw))
        )
        if buffered.peek(2)[:2] == _GZIP:
            return cast(BinaryIO, _Unzipped(buffered))
        return buffered


def byte_source(where: str) -> ByteSource:
    """Return the source of a path, or of standard input for `-`.

    Raises:
        DataError: there is no such file.
        UsageError: standard input is a terminal.
    """
    if where == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "rows are to be read from standard input, but nothing is piped into it",
                hint="for example: cat rows.csv | flowgmm predict --data -",
            )
        return ByteSource("standard input", None, again=False)
    path = Path(where).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, such as <(zcat rows.csv.gz)
        return ByteSource(where, path, again=False)
    return ByteSource(where, existing_file(where), again=True)


class _Unzipped(gzip.GzipFile):
    """An unzipped stream that closes the zipped one, too."""

    def __init__(self, zipped: io.BufferedReader) -> None:
        super().__init__(fileobj=zipped)
        self._zipped = zipped

    def close(self) -> None:
        """Close both streams."""
        super().close()
        self._zipped.close()


def _stdin() -> BinaryIO:
    return sys.stdin.buffer

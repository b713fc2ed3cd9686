"""Sources of bytes: files and standard input; gzip is decompressed."""

from __future__ import annotations

import gzip
import io
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.errors import DataError, UsageError

STDIN = "-"
_GZIP = b"\x1f\x8b"


@dataclass
class ByteSource:
    """File, named pipe or standard input."""

    name: str  # the source as messages call it
    path: Path | None  # the file; None for standard input
    rereadable: bool  # True if it can be opened more than once
    _opened: bool = field(default=False, init=False)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without a final `.gz`; '' for standard input."""
        if self.path is None:
            return ""
        stem = self.path.with_suffix("") if self.path.suffix.lower() == ".gz" else self.path
        return stem.suffix.lower()

    def open(self) -> BinaryIO:
        """Open the source for reading, decompressed; `DataError` if it was read and cannot be read again."""
        if self._opened and not self.rereadable:
            raise DataError(f"{self.name} can be read only once", hint="write it to a file and name the file")
        self._opened = True
        raw: Any = sys.stdin.buffer if self.path is None else self.path.open("rb")
        stream: Any = raw if hasattr(raw, "peek") else io.BufferedReader(raw)
        opened: Any = _GzipStream(stream) if stream.peek(2)[:2] == _GZIP else stream
        return cast(BinaryIO, opened)


def find_source(where: str) -> ByteSource:
    """Return the source at a path, or standard input for `-`."""
    if where == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "rows are read from standard input, but nothing is piped into it",
                hint="for example: cat rows.csv | flowgmm predict --data -",
            )
        return ByteSource("standard input", None, rereadable=False)
    path = Path(where).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, such as <(zcat rows.csv.gz)
        return ByteSource(where, path, rereadable=False)
    return ByteSource(where, require_file(where), rereadable=True)


class _GzipStream(gzip.GzipFile):
    """Decompressed stream that also closes the compressed one."""

    def __init__(self, compressed: io.BufferedReader) -> None:
        super().__init__(fileobj=compressed)
        self._compressed = compressed

    def close(self) -> None:
        """Close both streams."""
        super().close()
        self._compressed.close()

"""Sources of bytes: files, pipes and standard input, decompressed and recoded as UTF-8 text; header lines."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from flowgmm_cli.errors import DataError, UsageError, did_you_mean

Item = TypeVar("Item")

STDIN = "-"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes of compressed files."""
MAX_RECORD = 8 * 2**20
"""Maximum bytes of a line of text, and of a record of a csv file."""
_MAX_BATCH = 32 * 2**20  # bytes of lines
NOT_UTF8 = "not UTF-8 text"
ENCODING_HINT = (
    "name the encoding of the file, such as data.encoding=cp1252 (init: --encoding cp1252; other commands: "
    "--data '{use: csv, path: FILE, encoding: cp1252}'), or save it as UTF-8"
)
FOREIGN_MARKS = "with a decimal comma or thousands marks"
MARKS_HINT = "data.decimal and data.thousands, or --data '{use: csv, path: FILE, decimal: \",\"}'"

_READ_BYTES = 2**16
_UTF8 = ("", "utf-8", "utf8", "utf-8-sig")
_SINGLE_BYTE = ("cp125", "iso8859", "mac")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class FileStamp:
    """Identity of a file's content: its path, size in bytes, and time of modification in nanoseconds."""

    path: Path
    size: int
    modified: int

    @classmethod
    def of(cls, path: Path) -> FileStamp:
        """Return the stamp of a file."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns)

    def require_unchanged(self) -> None:
        """Raise `DataError` if the file has been written since."""
        if FileStamp.of(self.path) != self:
            raise DataError(
                f"{self.path} has been written since it was opened",
                hint="do not change the files while they are read; start again",
            )


@dataclass
class ByteSource:
    """File, named pipe or standard input.

    Attributes:
        name: the source as messages call it.
        path: the file; None for standard input.
        rereadable: True if it can be opened more than once.
        encoding: encoding of its text; None for UTF-8, or UTF-16 with a byte order mark.
    """

    name: str
    path: Path | None
    rereadable: bool
    encoding: str | None = None
    stamp: FileStamp | None = field(default=None, init=False)
    _opened: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.path is not None and self.rereadable:
            self.stamp = FileStamp.of(self.path)

    @property
    def suffix(self) -> str:
        """The suffix in lower case, without that of a compression; '' for standard input."""
        return "" if self.path is None else plain_suffix(self.path)

    def open(self) -> io.BufferedReader:
        """Open the source for reading, decompressed; `DataError` if it was read and cannot be read again."""
        if self._opened and not self.rereadable:
            raise DataError(f"{self.name} can be read only once", hint="write it to a file and name the file")
        self._opened = True
        if self.stamp is not None:
            self.stamp.require_unchanged()
        raw: Any = sys.stdin.buffer if self.path is None else self.path.open("rb")
        return _decompress(raw if hasattr(raw, "peek") else io.BufferedReader(raw))

    def open_text(self) -> io.BufferedReader:
        """Open the source as UTF-8 text without a byte order mark; `DataError` for an unknown encoding."""
        stream = self.open()
        head = stream.peek(4)
        encoding = None if (self.encoding or "").casefold() in _UTF8 else self.encoding
        if encoding is None and head[:2] in _UTF16:
            encoding = "utf-16"
        elif encoding is not None and _is_surely_utf8(stream.peek(_READ_BYTES), encoding):
            encoding = None
        if encoding is None:
            if head.startswith(codecs.BOM_UTF8):
                stream.read(len(codecs.BOM_UTF8))
            return stream
        try:
            decoder = codecs.getincrementaldecoder(encoding)()
            decoder.decode(b"")  # codecs such as `hex` are not encodings of text
        except (LookupError, TypeError, ValueError) as error:
            stream.close()
            raise DataError(
                f"{self.name}: there is no encoding `{encoding}` (data.encoding)",
                hint="for example utf-8, utf-16, cp1252, latin-1, shift_jis",
            ) from error

        def recode() -> Iterator[bytes]:
            data = b"."
            while data:
                data = stream.read(_READ_BYTES)
                try:
                    yield decoder.decode(data, final=not data).encode("utf-8", "replace")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.name} is not text of the encoding {encoding}: {error.reason}",
                        hint="name the encoding of the file with data.encoding",
                    ) from error

        return io.BufferedReader(_Blocks(recode(), stream))


def _is_surely_utf8(data: bytes, encoding: str) -> bool:
    """Return True if the first bytes of a text are UTF-8, not of an encoding with one byte a letter.

    >>> _is_surely_utf8("Größe".encode(), "cp1252"), _is_surely_utf8("Größe".encode("cp1252"), "cp1252")
    (True, False)
    >>> _is_surely_utf8(b"size", "cp1252"), _is_surely_utf8("Größe".encode(), "gbk")
    (False, False)
    """
    try:
        single_byte = codecs.lookup(encoding).name.startswith(_SINGLE_BYTE)
        return single_byte and not codecs.getincrementaldecoder("utf-8")().decode(data).isascii()
    except (LookupError, UnicodeDecodeError):
        return False


def read_lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    """Yield the lines of a text; `DataError` for a line of more than `MAX_RECORD` bytes."""
    number = 0
    while line := stream.readline(MAX_RECORD + 1):
        number += 1
        if len(line) > MAX_RECORD:
            raise long_line(name, number)
        yield line


def long_line(name: str, number: int) -> DataError:
    """Return the error of a line of more than `MAX_RECORD` bytes."""
    return DataError(
        f"{name}:{number}: the line has more than {MAX_RECORD >> 20} MiB",
        hint="one row is one line; the file may be of another type (--data-format)",
    )


def take(items: Iterator[Item], size: int, length: Callable[[Item], int]) -> list[Item]:
    """Return the next items, at most `size`, or fewer if their lengths in bytes exceed 32 MiB."""
    taken: list[Item] = []
    total = 0
    while len(taken) < size and total <= _MAX_BATCH and (item := next(items, None)) is not None:
        taken.append(item)
        total += length(item)
    return taken


def plain_suffix(path: Path) -> str:
    """Return the suffix in lower case, without that of a compression.

    >>> plain_suffix(Path("rows.CSV.gz"))
    '.csv'
    """
    return (path.with_suffix("") if path.suffix.lower() in COMPRESSED else path).suffix.lower()


def find_source(where: str, encoding: str | None = None) -> ByteSource:
    """Return the source at a path, or standard input for `-`."""
    if where == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "rows are read from standard input, but nothing is piped into it",
                hint="for example: cat rows.csv | flowgmm predict --data -",
            )
        return ByteSource("standard input", None, rereadable=False, encoding=encoding)
    path = Path(where).expanduser()
    if path.exists() and not path.is_file() and not path.is_dir():  # a pipe, such as <(zcat rows.csv.gz)
        return ByteSource(where, path, rereadable=False, encoding=encoding)
    return ByteSource(where, require_file(where), rereadable=True, encoding=encoding)


def _decompress(stream: io.BufferedReader) -> io.BufferedReader:
    """Return the decompressed stream, if its first bytes show a compression."""
    head = stream.peek(6)[:6]
    if head[:2] == b"\x1f\x8b":
        opened: Any = gzip.GzipFile(fileobj=stream)
    elif head[:3] == b"BZh":
        opened = bz2.BZ2File(stream)
    elif head == b"\xfd7zXZ\x00":
        opened = lzma.LZMAFile(stream)  # noqa: SIM115 - closed by _Blocks
    elif head[:4] == b"\x28\xb5\x2f\xfd":
        import pyarrow as pa

        opened = pa.CompressedInputStream(stream, "zstd")
    else:
        return stream
    return io.BufferedReader(_Blocks(iter(lambda: opened.read(_READ_BYTES), b""), opened, stream))


class _Blocks(io.RawIOBase):
    """Stream of blocks of bytes that also closes the streams they come from."""

    def __init__(self, blocks: Iterator[bytes], *streams: Any) -> None:
        super().__init__()
        self._blocks = blocks
        self._streams = streams
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer and return their number."""
        while not self._rest and (block := next(self._blocks, None)) is not None:
            self._rest = memoryview(block)
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """Close all streams."""
        for stream in self._streams:
            stream.close()
        super().close()


NO_HEADER = "the first line must hold the names of the columns, but it holds"
_DELIMITERS = ",;\t|"


def require_file(path: str) -> Path:
    """Return the absolute path of a file; `DataError` if it does not exist or is a folder."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise DataError(f"{path} is a folder, not a file", hint="name one of the files in it")
    if not file.is_file():
        if re.match(r"[a-z][a-z0-9]+:/", path):  # `Path` makes one slash of two
            raise DataError(f"{path} is an address, not a file", hint="download it, and name the file here")
        siblings = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise DataError(
            f"no such file: {path}{did_you_mean(file.name, siblings)}",
            hint=f"check the path; it is looked for in {Path.cwd()}"
            if not file.is_absolute()
            else "check the path",
        )
    return file.resolve()


def column_names(header: Sequence[str], *, where: str) -> list[str]:
    """Return the names in a header line; a column without a name gets the one that pandas would give it.

    Raises:
        DataError: two columns have the same name.

    >>> column_names(["", " x ", "y"], where="t.csv")
    ['Unnamed: 0', 'x', 'y']
    """
    names = [name.strip() or f"Unnamed: {index}" for index, name in enumerate(header)]
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise DataError(
            f"{where}: the header names a column twice: {', '.join(repeated)}",
            hint=f"{NO_HEADER} numbers" if find_values(names) else "rename one of them",
        )
    return names


def require_header(names: Sequence[str], *, where: str) -> None:
    """Raise `DataError` if the names of columns are the cells of a row: numbers only, or measurements.

    Numbers that rise or fall, such as wavelengths, are names.

    >>> require_header(["0", "1", "2"], where="t.csv")
    >>> require_header(["label", "400.5", "401.0"], where="t.csv")
    """
    named = [name for name in names if not name.startswith("Unnamed: ")]
    found = find_values(named)
    counted = [[str(place) for place in range(start, start + len(named))] for start in (0, 1)]
    only_numbers = bool(named) and all(map(is_number, named)) and named not in counted
    if only_numbers or any(not float(name).is_integer() for name in found):
        raise missing_header(named, where=where, content="numbers")


def missing_header(names: Sequence[str], *, where: str, content: str) -> DataError:
    """Return the error for a table whose first line holds a row."""
    return DataError(
        f"{where}: {NO_HEADER} {content}",
        details=[f"first line: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"],
        hint="write a line with the names of the columns above the rows",
    )


def find_values(names: Sequence[str]) -> list[str]:
    """Return the numbers among names of columns, unless they rise, or many fall, from column to column.

    >>> find_values(["5.1", "3.5", "1.4", "setosa"]), find_values(["a", "2019", "2020"])
    (['5.1', '3.5', '1.4'], [])
    """
    numbers = [name for name in names if is_number(name)]
    steps = [float(after) - float(before) for before, after in pairwise(numbers)]
    in_order = all(step > 0 for step in steps) or (len(steps) >= 5 and all(step < 0 for step in steps))
    return [] if in_order else numbers


def is_number(text: str) -> bool:
    """Return True if a word is a number, which names of columns rarely are."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def guess_delimiter(suffix: str, header: str) -> str:
    """Return the most frequent delimiter of the header line, by default a comma."""
    if suffix.lower() in (".tsv", ".tab"):
        return "\t"
    return max(_DELIMITERS, key=header.count)

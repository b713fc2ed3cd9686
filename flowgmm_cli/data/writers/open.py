"""The writer for a word of the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from flowgmm_cli.data.writers.base import Writer
from flowgmm_cli.data.writers.target import StdoutTarget, Target, find_target
from flowgmm_cli.errors import UsageError, did_you_mean

FORMATS = ("csv", "tsv", "parquet", "jsonl", "npz")
SUFFIXES = {f".{name}": name for name in FORMATS} | {".ndjson": "jsonl", ".pq": "parquet"}
_BINARY = ("parquet", "npz")


def open_writer(where: str, *, format: str | None = None) -> Writer:
    """A writer for a file by its suffix, or for stdout; see `Writer`.

    Args:
        where: a file, or `-` for stdout.
        format: one of `FORMATS`; None goes by the suffix, and is csv on stdout.

    Raises:
        UsageError: the format is not known, `where` is a folder, or binary data would go to a terminal.
    """
    chosen = find_format(where, format)
    target = find_target(where)
    if chosen in _BINARY and isinstance(target, StdoutTarget) and sys.stdout.isatty():
        raise UsageError(
            f"{chosen} is not for a terminal", hint=f"--save out.{chosen}, or a pipe: ... --save - | program"
        )
    return _make(chosen, target)


def find_format(where: str, format: str | None = None) -> str:
    """The format of an answer; arguments and errors as for `open_writer`."""
    if format is not None:
        name = format.lower().removeprefix(".")
        if name not in FORMATS:
            raise UsageError(
                f"--format {format}: there is no such format{did_you_mean(name, FORMATS)}",
                hint=f"one of {', '.join(FORMATS)}",
            )
        return name
    if where == "-":
        return "csv"
    suffix = Path(where).suffix.lower()
    if suffix not in SUFFIXES:
        what = f"the suffix `{suffix}` is not known" if suffix else "the name has no suffix"
        raise UsageError(
            f"{where}: {what}, so its format is not either",
            hint=f"name a file that ends in {', '.join(f'.{name}' for name in FORMATS)}, or give --format",
        )
    return SUFFIXES[suffix]


def _make(format: str, target: Target) -> Writer:
    # each format's libraries are imported for that format alone
    if format == "parquet":
        from flowgmm_cli.data.writers.parquet import ParquetWriter

        return ParquetWriter(target)
    if format == "npz":
        from flowgmm_cli.data.writers.npz import NpzWriter

        return NpzWriter(target)
    from flowgmm_cli.data.writers.lines import DelimitedWriter, JsonlWriter

    if format == "jsonl":
        return JsonlWriter(target)
    return DelimitedWriter(target, "," if format == "csv" else "\t")

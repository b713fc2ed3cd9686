"""Choose the writer of an output from its path or format."""

from __future__ import annotations

import sys
from pathlib import Path

from flowgmm_cli.data.writers.base import Writer
from flowgmm_cli.data.writers.target import Target, parse_target
from flowgmm_cli.errors import UsageError, did_you_mean

FORMATS = ("csv", "tsv", "parquet", "jsonl", "npz")
SUFFIXES = {f".{name}": name for name in FORMATS} | {".ndjson": "jsonl", ".pq": "parquet"}
_BINARY = ("parquet", "npz")


def open_writer(where: str, *, format: str | None = None) -> Writer:
    """Return the writer of a file, or of stdout for `-`, of which the suffix gives the format (else csv)."""
    format = find_format(where, format)
    target = parse_target(where)
    if format in _BINARY and target.path is None and sys.stdout.isatty():
        raise UsageError(
            f"{format} is not for a terminal", hint=f"--save out.{format}, or a pipe: ... --save - | program"
        )
    return _create(format, target)


def find_format(where: str, format: str | None = None) -> str:
    """Return the format of an output; arguments and errors are those of `open_writer`."""
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


def _create(format: str, target: Target) -> Writer:
    # import only the libraries of this format
    if format == "parquet":
        from flowgmm_cli.data.writers.parquet import ParquetWriter

        return ParquetWriter(target)
    if format == "npz":
        from flowgmm_cli.data.writers.npz import NpzWriter

        return NpzWriter(target)
    from flowgmm_cli.data.writers.text import DelimitedWriter, JsonlWriter

    if format == "jsonl":
        return JsonlWriter(target)
    return DelimitedWriter(target, "," if format == "csv" else "\t")

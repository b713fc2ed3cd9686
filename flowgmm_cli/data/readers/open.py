"""The one way in for rows from outside: files, folders, standard input and data specs.

schema = InputSchema.of(recipe.data, featuriser.columns, class_names, ranges=featuriser.ranges)
for chunk in open_rows("new.csv", schema, context=context):
    ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.faults import reading
from flowgmm_cli.data.readers.schema import InputSchema, OnError, RowReader
from flowgmm_cli.data.readers.source import STDIN, ByteSource, byte_source
from flowgmm_cli.errors import DataError, UsageError, did_you_mean

Format = Literal["csv", "tsv", "parquet", "jsonl", "npz", "npy", "idx", "txt"]
FORMATS: tuple[str, ...] = get_args(Format)

_STREAMED = ("csv", "tsv", "jsonl", "txt")  # what standard input can hold
_BY_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".npz": "npz",
    ".npy": "npy",
    ".idx": "idx",
    ".txt": "txt",
}


def open_rows(
    where: str,
    schema: InputSchema,
    *,
    context: DataContext,
    format: str | None = None,
    split: str | None = None,
    on_error: OnError = "fail",
    chunk_rows: int = 8192,
) -> RowReader:
    """Open rows for a model; headers and columns are checked here, rows when they are read.

    Args:
        where: a file, a folder of images or texts, `-` for standard input, or a data spec
            `{use: csv, path: other.csv}`.
        schema: what the model reads.
        context: surroundings; `note` is told once of whatever is not plain.
        format: one of `FORMATS`; by default the suffix says it, and standard input is csv.
        split: of a data spec, which split; by default `test`, else `train`.
        on_error: what becomes of a row that cannot be read: it raises, or it is kept as a problem.
        chunk_rows: most rows of a chunk; chunks of wide rows are shorter.

    Raises:
        DataError: the input is missing, malformed or lacks a column.
        RecipeError: the data spec is invalid.
        UsageError: the format is unknown, or standard input is a terminal.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"unknown format `{format}`{did_you_mean(format, FORMATS)}", hint=f"one of {', '.join(FORMATS)}"
        )
    if where.lstrip().startswith("{"):
        from flowgmm_cli.data.readers.spec import file_of, load_spec, parse_spec, schema_of

        data = parse_spec(where, schema)
        path = file_of(data, split)
        schema = schema_of(data, schema)
        if path is None:
            return load_spec(data, schema, split=split, context=context, chunk_rows=chunk_rows)
        where = path
    elif split is not None:
        raise UsageError(f"{where} has no splits; only a data spec {{use: ...}} has")
    if where != STDIN and (folder := Path(where).expanduser()).is_dir():
        from flowgmm_cli.data.readers.folder import FolderReader

        return FolderReader(
            folder, schema, name=where, context=context, on_error=on_error, chunk_rows=chunk_rows
        )
    source = byte_source(where)
    kind = _format(source, format)
    return _reader(kind, source, schema, context=context, on_error=on_error, chunk_rows=chunk_rows)


def _format(source: ByteSource, given: str | None) -> str:
    """What the bytes are: as given, else by the suffix.

    Raises:
        DataError: the suffix says nothing.
        UsageError: standard input cannot hold it.
    """
    kind = given
    if kind is None and not source.again:
        kind = _BY_SUFFIX.get(source.suffix, "csv")
    if kind is None and source.path is not None:
        kind = _BY_SUFFIX.get(source.suffix)
        if kind is None and source.path.name.removesuffix(".gz").endswith("ubyte"):
            kind = "idx"
    if kind is None:
        what = f"files of type `{source.suffix}`" if source.suffix else "files without a suffix"
        raise DataError(
            f"{source.name}: {what} are not known",
            hint=f"name the type with --data-format, one of {', '.join(FORMATS)}",
        )
    if not source.again and kind not in _STREAMED:
        raise UsageError(
            f"{source.name} cannot be read as {kind}, which is not read from start to end",
            hint=f"one of {', '.join(_STREAMED)}; or write it to a file first",
        )
    return kind


def _reader(
    kind: str,
    source: ByteSource,
    schema: InputSchema,
    *,
    context: DataContext,
    on_error: OnError,
    chunk_rows: int,
) -> RowReader:
    # each reader brings its own library, so none is imported before it is needed
    if kind in ("csv", "tsv"):
        from flowgmm_cli.data.readers.csv import CsvReader

        suffix = ".tsv" if kind == "tsv" else source.suffix
        return CsvReader(
            source, schema, context=context, on_error=on_error, chunk_rows=chunk_rows, suffix=suffix
        )
    if kind == "jsonl":
        from flowgmm_cli.data.readers.jsonl import JsonlReader

        return JsonlReader(source, schema, context=context, on_error=on_error, chunk_rows=chunk_rows)
    if kind == "txt":
        from flowgmm_cli.data.readers.text import TextReader

        return TextReader(source, schema, on_error=on_error, chunk_rows=chunk_rows)
    path = source.path or Path(source.name)
    if kind == "parquet":
        from flowgmm_cli.data.readers.parquet import ParquetReader

        return ParquetReader(
            path, schema, name=source.name, context=context, on_error=on_error, chunk_rows=chunk_rows
        )
    from flowgmm_cli.data.readers.arrays import ArrayReader
    from flowgmm_cli.data.readers.streams import idx_arrays, npy_array, npz_arrays

    with reading(source.name, kind):
        if kind == "npz":
            arrays = npz_arrays(path, source.name)
        elif kind == "npy":
            arrays = {"": npy_array(path, source.name)}
        else:
            arrays = idx_arrays(source)
    return ArrayReader(arrays, schema, name=source.name, context=context, chunk_rows=chunk_rows)

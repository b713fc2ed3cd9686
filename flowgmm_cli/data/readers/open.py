"""Open rows of any kind: files, folders, standard input and data specs.

schema = InputSchema.from_config(recipe.data, preprocessor.columns, class_names, ranges=preprocessor.ranges)
for chunk in open_rows("new.csv", schema, context=context):
    ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.base import OnError, ReadOptions, RowReader, note_once
from flowgmm_cli.data.readers.byte_source import STDIN, ByteSource, find_source
from flowgmm_cli.data.readers.row_errors import translate_errors
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.errors import DataError, UsageError, did_you_mean

Format = Literal["csv", "tsv", "parquet", "jsonl", "npz", "npy", "idx", "txt"]
FORMATS: tuple[str, ...] = get_args(Format)

_STREAM_FORMATS = ("csv", "tsv", "jsonl", "txt")  # formats of standard input
_FORMAT_OF_SUFFIX = {f".{format}": format for format in FORMATS} | {
    ".tab": "tsv", ".pq": "parquet", ".ndjson": "jsonl", ".json": "jsonl"
}  # fmt: skip


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
    """Open rows for a model; headers and columns are checked now, rows when they are read.

    Args:
        where: a file, a folder of images or texts, `-` for standard input, or a data spec
            `{use: csv, path: other.csv}`.
        schema: the columns that the model reads.
        context: environment; its `note` receives every remark on the input once.
        format: one of `FORMATS`; by default given by the suffix, and csv for standard input.
        split: split of a data spec; by default `test`, else `train`.
        on_error: policy for rows that cannot be read: raise an error, or record a problem.
        chunk_rows: maximum number of rows in a chunk; chunks of wide rows are shorter.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"unknown format `{format}`{did_you_mean(format, FORMATS)}", hint=f"one of {', '.join(FORMATS)}"
        )
    if where.lstrip().startswith("{"):
        from flowgmm_cli.data.readers.data_spec import apply_spec, find_file, load_spec, parse_spec

        data = parse_spec(where, schema)
        path = find_file(data, split)
        schema = apply_spec(data, schema)
        if path is None:
            return load_spec(data, schema, split=split, context=context, chunk_rows=chunk_rows)
        where = path
    elif split is not None:
        raise UsageError(f"{where} has no splits; only a data spec {{use: ...}} has")
    options = ReadOptions(note_once(context), on_error, chunk_rows)
    if where != STDIN and (folder := Path(where).expanduser()).is_dir():
        from flowgmm_cli.data.readers.folder import FolderReader

        return FolderReader(folder, schema, options, name=where)
    source = find_source(where)
    return _create_reader(_find_format(source, format), source, schema, options)


def _find_format(source: ByteSource, format: str | None) -> str:
    """Return the format: the given one, else that of the suffix."""
    if format is None and not source.rereadable:
        format = _FORMAT_OF_SUFFIX.get(source.suffix, "csv")
    if format is None and source.path is not None:
        format = _FORMAT_OF_SUFFIX.get(source.suffix)
        if format is None and source.path.name.removesuffix(".gz").endswith("ubyte"):
            format = "idx"
    if format is None:
        what = f"files of type `{source.suffix}`" if source.suffix else "files without a suffix"
        raise DataError(
            f"{source.name}: {what} are not known",
            hint=f"name the type with --data-format, one of {', '.join(FORMATS)}",
        )
    if not source.rereadable and format not in _STREAM_FORMATS:
        raise UsageError(
            f"{source.name} cannot be read as {format}, which is not read from start to end",
            hint=f"one of {', '.join(_STREAM_FORMATS)}; or write it to a file first",
        )
    return format


def _create_reader(format: str, source: ByteSource, schema: InputSchema, options: ReadOptions) -> RowReader:
    # import only the libraries of this format
    if format in ("csv", "tsv"):
        from flowgmm_cli.data.readers.csv import CsvReader

        suffix = ".tsv" if format == "tsv" else source.suffix
        return CsvReader(source, schema, options, suffix=suffix)
    if format == "jsonl":
        from flowgmm_cli.data.readers.jsonl import JsonlReader

        return JsonlReader(source, schema, options)
    if format == "txt":
        from flowgmm_cli.data.readers.text import TextReader

        return TextReader(source, schema, options)
    path = source.path or Path(source.name)
    if format == "parquet":
        from flowgmm_cli.data.readers.parquet import ParquetReader

        return ParquetReader(path, schema, options, name=source.name)
    from flowgmm_cli.data.readers.array_files import open_idx_with_labels, open_npy, open_npz
    from flowgmm_cli.data.readers.arrays import ArrayReader

    with translate_errors(source.name, format):
        if format == "npz":
            arrays = open_npz(path, source.name)
        elif format == "npy":
            arrays = {"": open_npy(path, source.name)}
        else:
            arrays = open_idx_with_labels(source)
    return ArrayReader(arrays, schema, options, name=source.name)

"""Open rows of any kind: files, folders, standard input and data specs.

schema = InputSchema.from_config(recipe.data, preprocessor.columns, class_names, ranges=preprocessor.ranges)
for chunk in open_rows("new.csv", schema, context=context):
    ...
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.readers.array_files import find_array_format
from flowgmm_cli.data.readers.base import ReadOptions, RowReader, note_once, translate_errors
from flowgmm_cli.data.readers.byte_source import STDIN, ByteSource, find_source, plain_suffix
from flowgmm_cli.data.readers.chunks import TableChunks
from flowgmm_cli.data.readers.row_errors import OnError
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.readers.table import ReadSettings, SeveralFiles, TableReader
from flowgmm_cli.data.sources.columns import sort_naturally
from flowgmm_cli.errors import DataError, UsageError, did_you_mean
from flowgmm_cli.messages import quote

Format = Literal["csv", "tsv", "parquet", "arrow", "jsonl", "npz", "npy", "idx", "txt"]
FORMATS: tuple[str, ...] = get_args(Format)

_STREAM_FORMATS = ("csv", "tsv", "jsonl", "txt")  # formats of standard input
_TABLE_FORMATS = ("csv", "tsv", "jsonl", "parquet", "arrow")
_FORMAT_OF_SUFFIX = {
    **{f".{format}": format for format in (*_TABLE_FORMATS, "txt")},
    ".tab": "tsv",
    ".pq": "parquet",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_TABLE_SUFFIXES = tuple(suffix for suffix, format in _FORMAT_OF_SUFFIX.items() if format in _TABLE_FORMATS)
_SPREADSHEETS = (".xlsx", ".xls", ".ods")


def open_rows(
    where: str,
    schema: InputSchema,
    *,
    context: DataContext,
    format: str | None = None,
    on_error: OnError = "fail",
    chunk_rows: int = 8192,
    keep: Sequence[str] = (),
) -> RowReader:
    """Open rows for a model; headers and columns are checked now, rows when they are read.

    Args:
        where: a file, a folder of tables, images or texts, `-` for standard input, or a data spec
            `{use: csv, path: other.csv}`, of which the test rows are read, if there are any.
        schema: the columns that the model reads.
        context: environment; its `note` receives every remark on the input once.
        format: one of `FORMATS`; by default given by the suffix, and csv for standard input.
        on_error: policy for rows that cannot be read: raise an error, or record a problem.
        chunk_rows: maximum number of rows in a chunk; chunks of wide rows are shorter.
        keep: columns of a table to pass on, see `ReadOptions`.

    Raises:
        DataError: the rows cannot be read, or do not fit the model.
        UsageError: the format is unknown, or there are no such columns to keep.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(
            f"unknown format `{format}`{did_you_mean(format, FORMATS)}", hint=f"one of {', '.join(FORMATS)}"
        )
    with translate_errors("the data spec" if where.lstrip().startswith("{") else where):
        options = ReadOptions(note_once(context), on_error, chunk_rows, keep)
        return _open(where, schema, options, context, format)


def _open(
    where: str,
    schema: InputSchema,
    options: ReadOptions,
    context: DataContext,
    format: str | None,
) -> RowReader:
    if where.lstrip().startswith("{"):
        from flowgmm_cli.data.readers.data_spec import apply_spec, find_file, load_spec, parse_spec

        data = parse_spec(where, schema)
        path = find_file(data)
        schema = apply_spec(data, schema)
        if path is None:
            _require_table(options.keep, where)
            return load_spec(data, schema, context)
        where = path
    folder = Path(where).expanduser()
    is_folder = where != STDIN and folder.is_dir()
    if is_folder:
        from flowgmm_cli.data.readers.folder import FolderReader, holds_images

        if holds_images(folder, schema) or not _list_tables(folder):
            _require_table(options.keep, where)
            return FolderReader(folder, schema, options, name=where)
    if is_folder or (where != STDIN and not folder.exists() and glob.has_magic(where)):
        return TableChunks(open_table(where, schema.settings, note=options.note), schema, options)
    source = find_source(where, schema.settings.encoding)
    format = _find_format(source, format)
    if format in ("npz", "npy", "idx"):
        _require_table(options.keep, where)
        from flowgmm_cli.data.readers.array_files import open_arrays
        from flowgmm_cli.data.readers.arrays import ArrayReader

        return ArrayReader(open_arrays(source, format), schema, options, name=source.name)
    if format == "txt":
        from flowgmm_cli.data.readers.lines import TextReader

        if schema.text is None:
            columns = ", ".join(column.name for column in schema.columns[:12])
            raise DataError(
                f"{source.name} holds nothing but texts, but the model reads columns: {columns}",
                hint="give it a csv, parquet or jsonl file with these columns",
            )
        return TableChunks(TextReader(source, column=schema.text.name), schema, options)
    return TableChunks(_open_file(format, source, schema.settings, options.note), schema, options)


def _require_table(keep: Sequence[str], where: str) -> None:
    if keep:
        raise UsageError(
            f"--with keeps columns of a table, which {where} is not",
            hint="leave out --with: the rows are in the order of the input, and `id` names them",
        )


def open_table(
    path: str, settings: ReadSettings | None = None, *, note: Callable[[str], None]
) -> TableReader:
    """Open a table: a file, a folder of files or a pattern such as `rows/*.parquet`, in natural order.

    Args:
        path: csv, tsv, jsonl, parquet and arrow (feather) files, csv and jsonl also compressed; or a folder
            of text files, with a folder for each class.
        settings: form of text files.
        note: receives guesses, such as the delimiter.
    """
    settings = settings or ReadSettings()
    place = Path(path).expanduser()

    def open_file(name: str) -> TableReader:
        source = find_source(name, settings.encoding)
        return _open_file(_find_format(source, None, _TABLE_FORMATS), source, settings, note)

    if path == STDIN or not (place.is_dir() or (glob.has_magic(path) and not place.exists())):
        return open_file(path)
    if place.is_dir():
        files, error = _list_tables(place), f"{path} is a folder without a file of a table"
    else:
        matches = map(Path, glob.glob(str(place), recursive=True))  # noqa: PTH207 - also matches absolute paths
        files = [file for file in matches if plain_suffix(file) in _TABLE_SUFFIXES and file.is_file()]
        error = f"no such file: {path}, and no file of a table matches it as a pattern"
    if not files:
        where = "" if place.is_absolute() else f"; it is looked for in {Path.cwd()}"
        hint = f"known types: {', '.join(_TABLE_SUFFIXES)}{where}"
        from flowgmm_cli.data.images.encoded_images import list_files
        from flowgmm_cli.data.readers.text_folder import TextFolderReader, list_texts

        if place.is_dir() and list_files(place).files:
            hint = f"it holds images: flowgmm train images {quote(f'data.path={path}')}"
        elif place.is_dir() and (texts := list_texts(place)).files:
            return TextFolderReader(place, texts, name=path, encoding=settings.encoding, note=note)
        raise DataError(error, hint=hint)
    readers = [open_file(name) for name in sort_naturally([str(file) for file in files])]
    if all(reader.rows == 0 for reader in readers):
        raise DataError(f"{path} has no rows", hint="check the path (data.path)")
    return SeveralFiles(path, readers) if len(readers) > 1 else readers[0]


def holds_texts(folder: Path) -> bool:
    """Return True for a folder of text files in folders, without tables."""
    from flowgmm_cli.data.readers.text_folder import list_texts

    return not _list_tables(folder) and any("/" in name for name in list_texts(folder).files)


def _list_tables(folder: Path) -> list[Path]:
    """Return the tables in a folder and its folders.

    Other programs write metadata to files and folders whose names begin with `.` or `_`.
    """
    return [
        file
        for file in folder.rglob("*")
        if plain_suffix(file) in _TABLE_SUFFIXES
        and file.is_file()
        and not any(part[0] in "._" for part in file.relative_to(folder).parts)
    ]


def _find_format(source: ByteSource, format: str | None, formats: tuple[str, ...] = FORMATS) -> str:
    """Return the format: the given one, else that of the suffix."""
    if format is None and not source.rereadable:
        format = _FORMAT_OF_SUFFIX.get(source.suffix, "csv")
    if format is None and source.path is not None:
        format = _FORMAT_OF_SUFFIX.get(source.suffix) or find_array_format(source.path)
    if format is None or format not in formats:
        from flowgmm_cli.data.images.encoded_images import SUFFIXES

        what = f"files of type `{source.suffix}`" if source.suffix else "files without a suffix"
        hint = f"known types: {', '.join(_TABLE_SUFFIXES)}"
        if source.suffix in _SPREADSHEETS:
            hint = "save the sheet as csv"
        elif source.path is not None and source.suffix in SUFFIXES:
            hint = f"images are read from a folder: --data {quote(source.path.parent)}"
        elif format in ("npz", "npy", "idx"):
            hint = "arrays are read by the data sources `arrays` and `images`"
        elif formats == FORMATS:
            hint = f"name the type with --data-format, one of {', '.join(FORMATS)}"
        raise DataError(f"{source.name}: {what} cannot be read as a table", hint=hint)
    if not source.rereadable and format not in _STREAM_FORMATS:
        raise UsageError(
            f"{source.name} cannot be read as {format}, which is not read from start to end",
            hint=f"one of {', '.join(_STREAM_FORMATS)}; or write it to a file first",
        )
    return format


def _open_file(
    format: str, source: ByteSource, settings: ReadSettings, note: Callable[[str], None]
) -> TableReader:
    # import only the libraries of this format
    if format in ("csv", "tsv"):
        from flowgmm_cli.data.readers.csv import CsvReader

        return CsvReader(source, settings, suffix=".tsv" if format == "tsv" else source.suffix, note=note)
    if format == "jsonl":
        from flowgmm_cli.data.readers.lines import JsonlReader

        return JsonlReader(source)
    from flowgmm_cli.data.readers.columnar import ArrowReader, ParquetReader

    path = source.path or Path(source.name)
    return (ParquetReader if format == "parquet" else ArrowReader)(path, name=source.name)

"""Rows of csv and JSON lines, read batch by batch, and predictions in the same formats."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from flowgmm_runtime.cells import InputError
from flowgmm_runtime.columns import Problems
from flowgmm_runtime.model import BATCH_ROWS, iterate

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_DELIMITERS = ",;\t|"
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)

Batch = tuple[dict[str, list[Any]], Problems]
"""Cells by column, and the rows that cannot be read."""


def find_format(file: str, named: str | None) -> str:
    """Return the format of a file: csv, tsv or jsonl. Raises `InputError` for another suffix."""
    suffix = Path(file).suffix.lower()
    if named is None and file != "-" and suffix not in FORMATS:
        raise InputError(
            f"{file}: its name ends in none of {', '.join(FORMATS)}; name the format, such as csv"
        )
    return named or FORMATS.get(suffix, "csv")


def read_batches(file: str, form: str, settings: Mapping[str, Any]) -> Iterator[Batch]:
    """Read a file or standard input; `settings` are the form of the files of the training."""
    with open_text(file, settings["encoding"]) as lines:
        read = _read_lines(lines) if form == "jsonl" else _read_csv(lines, form, settings)
        empty = True
        for batch in iterate(read, BATCH_ROWS):
            empty = False
            names = dict.fromkeys(name for cells, _ in batch for name in cells)
            table = {name: [cells.get(name) for cells, _ in batch] for name in names}
            yield table, {row: problem for row, (_, problem) in enumerate(batch) if problem}
        if empty:
            raise InputError(f"{file} has no rows")


@contextmanager
def open_text(file: str, encoding: str | None) -> Iterator[TextIO]:
    """Open a file or standard input as text; UTF-16 is known by its mark."""
    with sys.stdin.buffer if file == "-" else Path(file).open("rb") as stream:
        data: Any = stream  # both have `peek`
        wide = data.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        name = "utf-16" if wide and encoding is None else (encoding or "utf-8")
        text = io.TextIOWrapper(data, "utf-8-sig" if name.lower() in ("utf-8", "utf8") else name, newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is not text of the encoding {name}: {error.reason}") from error


def _read_csv(lines: TextIO, form: str, settings: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the cells of each record and its problem, without lines above the header that begin with #."""
    csv.field_size_limit(2**31 - 1)
    delimiter, header, skipped = settings["delimiter"], "", 0
    for line in lines:
        separator = _SEPARATOR_LINE.fullmatch(line.strip())
        if separator is not None:
            delimiter = delimiter or separator[1]
        elif line.strip() and not line.startswith("#"):
            header = line
            break
        skipped += 1
    delimiter = delimiter or ("\t" if form == "tsv" else max(_DELIMITERS, key=header.count))
    records = csv.reader(chain([header], lines), delimiter=delimiter)
    names = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(next(records, []))]
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the header names a column twice: {', '.join(repeated)}")
    to_plain = _number_format(settings["decimal"], settings["thousands"])
    for cells in records:
        if not cells or (len(cells) == 1 and cells[0] and not cells[0].strip()):
            continue
        count = len(cells)
        if count < len(names) or "".join(cells[len(names) :]).strip():
            problem = f"line {skipped + records.line_num}: {count} cells, but the header has {len(names)}"
            yield dict.fromkeys(names), problem
        else:
            yield {name: to_plain(cell) for name, cell in zip(names, cells, strict=False)}, ""


def _number_format(decimal: str, thousands: str | None) -> Any:
    """Return a function that writes numbers with these marks like 1000.5; other cells stay."""
    if decimal == "." and not thousands:
        return lambda cell: cell
    point = re.escape(decimal)
    grouped = rf"|[0-9]{{1,3}}({re.escape(thousands)}[0-9]{{3}})+" if thousands else ""
    number = re.compile(rf"\s*[+-]?(([0-9]+{grouped})({point}[0-9]*)?|{point}[0-9]+)([eE][+-]?[0-9]+)?\s*")

    def to_plain(cell: str) -> str:
        if not number.fullmatch(cell):
            return cell
        return (cell.replace(thousands, "") if thousands else cell).replace(decimal, ".")

    return to_plain


def _read_lines(lines: TextIO) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the object of each line that is not blank, or of a JSON array, and its problem."""
    numbered = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    first = next(numbered, (1, ""))
    if first[1].lstrip().startswith("["):
        try:
            items = json.loads("".join([first[1], *lines]))
        except ValueError as error:
            raise InputError(f"the array is not JSON: {error}") from error
        for number, item in enumerate(items, start=1):
            yield (item, "") if isinstance(item, dict) else ({}, f"item {number}: not a JSON object")
        return
    for number, line in chain([first] if first[1] else [], numbered):
        try:
            value = json.loads(line)
        except ValueError as error:
            yield {}, f"line {number}: not JSON: {error}"
            continue
        yield (value, "") if isinstance(value, dict) else ({}, f"line {number}: not a JSON object")


@contextmanager
def open_writer(file: str, form: str) -> Iterator[Any]:
    """Yield a function that writes columns; a file is complete, or absent after an error."""
    if file == "-":
        yield _writer(sys.stdout, form)
        return
    temporary = Path(f"{file}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            yield _writer(stream, form)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _writer(stream: TextIO, form: str) -> Any:
    lines = csv.writer(stream, delimiter="\t" if form == "tsv" else ",", lineterminator="\n")
    started = False

    def write(columns: Mapping[str, Sequence[Any]]) -> None:
        nonlocal started
        rows = zip(*columns.values(), strict=True)
        if form == "jsonl":
            for row in rows:
                stream.write(json.dumps(dict(zip(columns, row, strict=True)), ensure_ascii=False) + "\n")
            return
        if not started:
            lines.writerow(columns)
            started = True
        lines.writerows([_to_csv(cell) for cell in row] for row in rows)

    return write


def _to_csv(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell

"""A table of labels beside images: one row names a file and its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from flowgmm_cli.data.images.specs import ImagesConfig

LABELS = "labels.csv"
_LISTED = 8
_FEW = 5_000  # near matches among more names would take long


@dataclass(frozen=True)
class TableLabels:
    """What a table says of each image, None where it says nothing.

    Attributes:
        labels: classes.
        extras: other columns that the recipe names.
    """

    labels: list[str | None]
    extras: Mapping[str, list[str | None]]


def read_labels(
    table: Path, images: Sequence[str], root: str, config: ImagesConfig, notes: list[str]
) -> TableLabels:
    """Read the labels of images.

    A file may be named without its suffix, if that is plain.

    Args:
        table: csv, tsv, jsonl or parquet file with the columns `config.file` and `config.label`.
        images: paths in the folder of the data.
        root: the folder that the table's paths begin in, a path in the folder of the data.
        config: names the columns.
        notes: more are added.

    Raises:
        DataError: the table names a file that is not there, or one twice with different labels.
    """
    read = read_table(str(table), note=notes.append)
    files = strings(read.column(config.file, key="data.file"))
    labels = strings(read.column(config.label, key="data.label"))
    marker = config.labels.column
    marked = strings(read.data.column(marker)) if marker is not None and marker in read.names else None

    prefix = f"{root}/" if root else ""
    known = {name.removeprefix(prefix): row for row, name in enumerate(images)}
    stems: dict[str, int | None] = {}
    for name, place in known.items():
        stem = PurePosixPath(name).with_suffix("").as_posix()
        stems[stem] = None if stem in stems else place
    found: dict[int, int] = {}
    missing: list[tuple[int, str | None]] = []
    row: int | None
    for line, file in enumerate(files.tolist()):
        plain = None if file is None else PurePosixPath(file.replace("\\", "/")).as_posix()
        row = None if plain is None else known.get(plain, stems.get(plain))
        if row is None:
            missing.append((line, file))
        elif row in found and labels[found[row]] != labels[line]:
            raise DataError(
                f"{table}: {file} is named twice, as `{labels[found[row]]}` and as `{labels[line]}`",
                hint="leave one of the rows out",
            )
        else:
            found[row] = line
    if missing:
        raise _missing(missing, table, list(known), len(files))
    if len(found) < len(images):
        notes.append(f"{table.name} does not name {len(images) - len(found):,} of {len(images):,} images")
    lines = [found.get(row) for row in range(len(images))]
    extras = {}
    if marker is not None and marked is not None:
        extras[marker] = [None if line is None else marked[line] for line in lines]
    return TableLabels([None if line is None else labels[line] for line in lines], extras)


def _missing(
    missing: Sequence[tuple[int, str | None]], table: Path, known: Sequence[str], total: int
) -> DataError:
    names = known if len(known) <= _FEW else []
    details = [
        f"row {line + 1}: {file or 'an empty cell'}{did_you_mean(file, names) if file else ''}"
        for line, file in missing[:_LISTED]
    ]
    if len(missing) > _LISTED:
        details.append(f"and {len(missing) - _LISTED:,} more")
    return DataError(
        f"{table} names files that are not there ({len(missing):,} of {total:,} rows)",
        details=details,
        hint="paths begin in the folder of the images; data.file names their column",
    )

"""Read a table of labels for images: each row names a file and its class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.labels import label_cells
from flowgmm_cli.data.messages import list_some
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.data.sources.tables import read_table
from flowgmm_cli.errors import DataError, did_you_mean

LABELS_FILE = "labels.csv"
_MAX_LISTED = 8
_MAX_SUGGESTED = 5_000  # searching more names for near matches would take long


def read_labels(
    table: Path, images: Sequence[str], root: str, config: ImagesConfig, notes: list[str]
) -> tuple[list[str | None], dict[str, list[str | None]]]:
    """Read the labels of images, paths in the data folder; those in the table are relative to `root` in it.

    Also returns the column that marks labelled rows, by name. Images that the table lacks have None.
    The table may name a file without its suffix if only one file matches.
    """
    content = read_table(str(table), note=notes.append)
    files = strings(content.column(config.file, key="data.file"))
    labels = label_cells(content.column(config.label, key="data.label"), config.label, str(table))
    marker = config.labels.column

    prefix = f"{root}/" if root else ""
    positions = {name.removeprefix(prefix): position for position, name in enumerate(images)}
    stems: dict[str, int | None] = {}
    for name, position in positions.items():
        stem = PurePosixPath(name).with_suffix("").as_posix()
        stems[stem] = None if stem in stems else position
    line_of: dict[int, int] = {}
    missing: list[tuple[int, str | None]] = []
    for line, file in enumerate(files.tolist()):
        path = None if file is None else PurePosixPath(file.replace("\\", "/")).as_posix()
        image = None if path is None else positions.get(path, stems.get(path))
        if image is None:
            missing.append((line, file))
        elif image in line_of and labels[line_of[image]] != labels[line]:
            raise DataError(
                f"{table}: {file} is named twice, as `{labels[line_of[image]]}` and as `{labels[line]}`",
                hint="leave one of the rows out",
            )
        else:
            line_of[image] = line
    if missing:
        raise _missing_files(missing, table, list(positions), len(files))
    if len(line_of) < len(images):
        notes.append(f"{table.name} does not name {len(images) - len(line_of):,} of {len(images):,} images")
    lines = [line_of.get(image) for image in range(len(images))]
    extras = {}
    if marker is not None and marker in content.names:
        marks = strings(content.data.column(marker))
        extras[marker] = [None if line is None else marks[line] for line in lines]
    return [None if line is None else labels[line] for line in lines], extras


def _missing_files(
    missing: Sequence[tuple[int, str | None]], table: Path, known: Sequence[str], total: int
) -> DataError:
    names = known if len(known) <= _MAX_SUGGESTED else []
    details = (
        f"row {line + 1}: {file or 'an empty cell'}{did_you_mean(file, names) if file else ''}"
        for line, file in missing
    )
    return DataError(
        f"{table} names files that do not exist ({len(missing):,} of {total:,} rows)",
        details=list_some(details, len(missing), _MAX_LISTED),
        hint="paths are relative to the folder of the images; data.file names their column",
    )

"""Tables of labels beside images: labels.csv, or metadata.csv in the style of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from flowgmm_cli.data.array_types import Strings
from flowgmm_cli.data.images.encoded_images import LABEL_TABLES, Listing
from flowgmm_cli.data.readers.base import OnError, RowError
from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.table import FaultyRows, load_table
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.errors import DataError, did_you_mean

_FILE_COLUMNS = ("file", "file_name")
_MAX_SUGGESTED = 5_000  # searching more names for near matches would take long


@dataclass(frozen=True)
class ImageLabels:
    """Labels of the images that a table names.

    Attributes:
        labels: image -> label, None where the cell is empty.
        marks: image -> cell of the column that marks labelled rows; None if the table lacks it.
    """

    labels: Mapping[str, str | None]
    marks: Mapping[str, str | None] | None


def find_tables(listing: Listing, folders: Iterable[str]) -> dict[str, str]:
    """Return the tables of labels in some folders of a listing, '' for its top, by folder."""
    tables: dict[str, str] = {}
    for name in LABEL_TABLES[::-1]:
        for path in listing.tables:
            folder, _, file = path.rpartition("/")
            if file == name and folder in folders:
                tables[folder] = path
    return tables


def read_labels(
    path: Path,
    images: Sequence[str],
    root: str,
    *,
    note: Callable[[str], None],
    label: str = "label",
    file: str | None = None,
    marker: str | None = None,
    on_error: OnError | None = "keep",
    required: bool = False,
) -> ImageLabels | None:
    """Read a table of labels; None if it has no labels and is not `required`.

    Args:
        path: the table.
        images: paths of images in a folder. The table may name one without its suffix.
        root: folder, in that folder, that paths in the table are relative to.
        note: receives remarks on the table.
        label: column of the labels.
        file: column of the paths; None tries the usual names.
        marker: column that marks labelled rows; optional in the table.
        on_error: policy for rows that cannot be read, and in a required table for those that name no image.
        required: labels must be there.

    Raises:
        DataError: a column is missing, or the table gives two labels to an image.
    """
    table = load_table(open_table(str(path), note=note), on_error=on_error, note=note)
    if not required and label not in table.names:
        note(f"{path} has no column `{label}` (data.label), so it is left out")
        return None
    column = file or next((name for name in _FILE_COLUMNS if name in table.names), _FILE_COLUMNS[0])
    files = strings(table.column(column, key="data.file")).tolist()
    cells = table.label_strings(label).tolist()
    by_name = _index_names(images)
    faulty = FaultyRows(str(path), on_error)
    rows: dict[str, int] = {}
    for row, name in enumerate(files):
        image = name and by_name.get(PurePosixPath(root, name.replace("\\", "/")).as_posix())
        if not image:
            faulty.add(str(path), f"row {table.row_number(row)}", _missing_image(name, images, root))
        elif cells[rows.setdefault(image, row)] != cells[row]:
            raise DataError(
                f"{path}: {name} is named twice, as `{cells[rows[image]]}` and as `{cells[row]}`",
                hint="leave one of the rows out",
            )
    if required:
        faulty.finish(len(files), note)
    if len(rows) < len(images):
        note(f"{path.name} does not name {len(images) - len(rows):,} of {len(images):,} images")
    marks = table.marker_cells(marker).get(marker or "")
    return ImageLabels(
        {image: cells[row] for image, row in rows.items()},
        None if marks is None else {image: marks[row] for image, row in rows.items()},
    )


def object_array(cells: Sequence[str | None]) -> Strings:
    """Return strings as an array of objects."""
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _index_names(images: Sequence[str]) -> dict[str, str | None]:
    """Return name -> image, also for names without a suffix; None if several images have that name."""
    names: dict[str, str | None] = {}
    for image in images:
        stem = PurePosixPath(image).with_suffix("").as_posix()
        names[stem] = None if stem in names else image
    return names | {image: image for image in images}


def _missing_image(name: str | None, images: Sequence[str], root: str) -> RowError:
    hint = "paths are relative to the folder of the table; data.file names their column"
    if name is None:
        return RowError("it names no image", hint)
    prefix = f"{root}/" if root else ""
    near = [image.removeprefix(prefix) for image in images] if len(images) <= _MAX_SUGGESTED else []
    return RowError(f"there is no image {name}{did_you_mean(name, near)}", hint)

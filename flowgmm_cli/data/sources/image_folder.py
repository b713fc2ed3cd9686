"""Read folders of images: a folder for each class or a table of labels, and folders of splits.

A table of labels is labels.csv, or metadata.csv in the style of the Hugging Face hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from flowgmm_cli.data.array_types import Array, Strings
from flowgmm_cli.data.images.encoded_images import LABEL_TABLES, EncodedImages, Listing, top_folder
from flowgmm_cli.data.images.specs import SPLIT_FOLDERS, ImagesConfig
from flowgmm_cli.data.readers.open import open_table
from flowgmm_cli.data.readers.row_errors import FaultyRows, OnError, RowError
from flowgmm_cli.data.readers.table import load_table
from flowgmm_cli.data.sources.columns import strings
from flowgmm_cli.errors import DataError, did_you_mean

Note = Callable[[str], None]
ByImage = Mapping[str, str | None]
"""Cells of a column of a table of labels, by image; None where the cell is empty."""

_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_FILE_COLUMNS = ("file", "file_name")
_MAX_LISTED = 8
_MAX_SUGGESTED = 5_000  # searching more names for near matches would take long


@dataclass(frozen=True)
class ImageSplit:
    """Images of a split, before they are converted to one format."""

    images: EncodedImages | Array  # encoded, or an array of images
    labels: Strings  # `(N,)`, None if unlabelled
    ids: Strings  # `(N,)`
    extras: Mapping[str, Strings] = field(default_factory=dict)  # see `Rows`

    def __len__(self) -> int:
        return len(self.ids)


class ImageFolder:
    """A folder of images whose layout is inferred from its subfolders and tables."""

    def __init__(self, folder: Path, listing: Listing, config: ImagesConfig, note: Note) -> None:
        if not listing.files:
            entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
            more = ", ..." if len(entries) > _MAX_LISTED else ""
            raise DataError(
                f"the folder {config.path} holds no image",
                details=[f"it holds: {', '.join(entries[:_MAX_LISTED]) or 'nothing'}{more}"],
                hint="a folder of images for each class is needed, or images and a table of labels, "
                "labels.csv",
            )
        self._folder = folder
        self._listing = listing
        self._config = config
        self._note = note
        self._unlabelled = set(config.unlabelled_names)

    def read(self) -> dict[str, ImageSplit]:
        """Read the images of each split; an `unlabelled` folder beside the splits belongs to training."""
        images, where = self._listing.files, self._config.path
        others = [
            f"{count:,} {suffix or 'without a suffix'}"
            for suffix, count in sorted(self._listing.others.items())
            if suffix not in (".csv", ".tsv", ".md")
        ]
        if others:
            self._note(f"{where}: files that are not images are left out ({', '.join(others)})")
        paths = self._find_tables()
        roots = self._find_split_roots(set(paths)) or {"train": ""}
        tables = {root: self._read_table(root, path, paths) for root, path in paths.items()}
        splits = {}
        for split, root in roots.items():
            names = [name for name in images if not root or top_folder(name) == root]
            table = tables.get(root) or tables.get("")
            labels, columns = table or (self._class_folders(root, names), {})
            if root and split == "train":
                unlabelled = self._unlabelled - set(roots.values())
                names += [name for name in images if top_folder(name) in unlabelled]
            extras = {"path": np.array(names, dtype=object)}
            extras |= {name: _look_up(names, cells) for name, cells in columns.items()}
            encoded = EncodedImages.in_folder(self._folder, names)
            splits[split] = ImageSplit(encoded, _look_up(names, labels), extras["path"], extras)
        tops = {top_folder(name) or name for name in images}
        unused = sorted(tops - set(roots.values()) - self._unlabelled)
        if unused and "" not in roots.values():
            listed = ", ".join(unused[:_MAX_LISTED])
            self._note(f"{where}: beside {', '.join(roots.values())}, left out: {listed}")
        return splits

    def _find_tables(self) -> dict[str, Path]:
        """Return the tables of labels of the folder, '', and of folders of splits, by folder."""
        given = self._config.labels_file
        folders = ["", *(name for name in self._listing.folders if name.lower() in SPLIT_FOLDERS)]
        if given is None:
            return {root: self._folder / file for root, file in find_tables(self._listing, folders).items()}
        paths = {root: self._folder / root / given for root in folders}
        paths = {root: path for root, path in paths.items() if path.is_file()}
        own_path = Path(given).expanduser()
        if own_path.is_file() and (own_path.is_absolute() or not paths):
            return {"": own_path}
        if not paths:
            near = sorted(entry.name for entry in self._folder.iterdir() if entry.suffix in _TABLE_SUFFIXES)
            raise DataError(
                f"{self._config.path} has no file {given} (data.labels_file)",
                details=[f"tables there: {', '.join(near[:_MAX_LISTED])}"] if near else [],
                hint="give its path in the folder",
            )
        return paths

    def _find_split_roots(self, with_table: set[str]) -> dict[str, str]:
        """Return split -> folder of its images; empty if the top folders are classes.

        Folders with the names of splits are splits if that of the training images has class folders or a
        table of labels, or if there are no other folders.
        """
        tops = {top_folder(name) for name in self._listing.files} - {""}
        named = {name for name in tops if name.lower() in SPLIT_FOLDERS}
        labelled = {top_folder(name) for name in self._listing.files if name.count("/") > 1} | with_table
        alone = tops <= named | self._unlabelled
        for folders in (named & labelled, named if alone else set()):
            roots = {SPLIT_FOLDERS[name.lower()]: name for name in sorted(folders, reverse=True)}
            if "train" in roots and not labelled:
                raise DataError(
                    f"{self._config.path}: no image has a label, since {' and '.join(sorted(named))} are "
                    f"folders of splits, and they hold neither class folders nor {LABEL_TABLES[0]}",
                    hint=f"make a folder for each class, such as {roots['train']}/cat; if they are classes, "
                    "move them into a folder named train; to read images without labels, name one of them",
                )
            if "train" in roots:
                return {split: roots[split] for split in ("train", "test", "val") if split in roots}
        return {}

    def _read_table(
        self, root: str, path: Path, tables: Iterable[str]
    ) -> tuple[ByImage, dict[str, ByImage]] | None:
        """Read the table of labels of a folder; None if it has no labels, as `metadata.csv` may."""
        config, images = self._config, self._listing.files
        tops = {name: top_folder(name) for name in images}
        return read_labels(
            path,
            [name for name, top in tops.items() if top == root or (not root and top not in tables)],
            root,
            note=self._note,
            label=config.label,
            file=config.file,
            extras=config.extra_columns,
            on_error=config.damage_policy,
            required=config.labels_file is not None or path.stem != "metadata",
        )

    def _class_folders(self, root: str, images: Sequence[str]) -> ByImage:
        """Return image -> class, the folder below the root."""
        prefix = f"{root}/" if root else ""
        tops = {name: top_folder(name.removeprefix(prefix)) for name in images}
        what = f"{self._config.path}/{root}" if root else self._config.path
        loose = sum(not top for top in tops.values())
        if loose == len(tops):
            self._note(f"{what}: no class folders and no {LABEL_TABLES[0]}, so no image has a label")
        elif loose:
            self._note(f"{what}: {loose:,} of {len(tops):,} images are in no class folder and have no label")
        inner = {name.removeprefix(prefix) for name in self._listing.folders if name.startswith(prefix)}
        empty = sorted({name for name in inner if "/" not in name} - set(tops.values()))
        if empty:
            self._note(f"{what}: folders without images are not classes: {', '.join(empty[:_MAX_LISTED])}")
        return {name: top for name, top in tops.items() if top and top not in self._unlabelled}


def _look_up(names: Sequence[str], cells: ByImage) -> Strings:
    return np.array([cells.get(name) for name in names], dtype=object)


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
    note: Note,
    label: str = "label",
    file: str | None = None,
    extras: Sequence[str] = (),
    on_error: OnError | None = "keep",
    required: bool = False,
) -> tuple[ByImage, dict[str, ByImage]] | None:
    """Read the labels in a table, and its further columns; None if it has no labels and is not `required`.

    Args:
        images: paths of images in a folder. The table may name one without its suffix.
        root: folder, in that folder, that paths in the table are relative to.
        label, file: columns of labels and of paths (None tries the usual names).
        extras: further columns, optional in the table.
        on_error: policy for rows that cannot be read, and in a required table for those that name no image.

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
    more = table.extra_cells(extras).items()
    return (
        {image: cells[row] for image, row in rows.items()},
        {name: {image: values[row] for image, row in rows.items()} for name, values in more},
    )


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

"""Read folders of images: a folder for each class or tables of labels, and folders of splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowgmm_cli.data.array_types import Array, Strings
from flowgmm_cli.data.images.encoded_images import LABEL_TABLES, EncodedImages, Listing
from flowgmm_cli.data.images.label_tables import (
    ImageLabels,
    find_tables,
    object_array,
    read_labels,
)
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.errors import DataError

Note = Callable[[str], None]

_SPLITS = {"train": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
_TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_MAX_LISTED = 8


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
        if not listing.images:
            raise DataError(
                f"the folder {config.path} holds no image", details=[f"it holds: {_contents(folder)}"],
                hint="a folder of images for each class is needed, or images and a table of labels, "
                "labels.csv",
            )  # fmt: skip
        self._folder = folder
        self._listing = listing
        self._config = config
        self._note = note
        self._unlabelled = set(config.unlabelled_names)

    def read(self) -> dict[str, ImageSplit]:
        """Read the images of each split; an `unlabelled` folder beside the splits belongs to training."""
        images, where = self._listing.images, self._config.path
        others = {
            suffix: n for suffix, n in self._listing.others.items() if suffix not in (".csv", ".tsv", ".md")
        }
        if others:
            kinds = ", ".join(f"{n:,} {suffix or 'without a suffix'}" for suffix, n in sorted(others.items()))
            self._note(f"{where}: files that are not images are left out ({kinds})")
        paths = self._find_tables()
        roots = self._find_split_roots(set(paths)) or {"train": ""}
        tables = {root: self._read_table(root, path, paths) for root, path in paths.items()}
        splits = {}
        for split, root in roots.items():
            names = [name for name in images if not root or _top(name) == root]
            table = tables.get(root) or tables.get("")
            labels = self._class_folders(root, names) if table is None else table.labels
            if root and split == "train":
                names += [name for name in images if _top(name) in self._unlabelled - set(roots.values())]
            paths_of_split = object_array(names)
            extras = {"path": paths_of_split}
            if table is not None and table.marks is not None:
                extras[str(self._config.labels.column)] = object_array([table.marks.get(n) for n in names])
            splits[split] = ImageSplit(
                EncodedImages.in_folder(self._folder, names),
                object_array([labels.get(name) for name in names]),
                paths_of_split,
                extras,
            )
        unused = sorted({_top(name) or name for name in images} - set(roots.values()) - self._unlabelled)
        if unused and "" not in roots.values():
            listed = ", ".join(unused[:_MAX_LISTED])
            self._note(f"{where}: beside {', '.join(roots.values())}, left out: {listed}")
        return splits

    def _find_tables(self) -> dict[str, Path]:
        """Return the tables of labels of the folder, '', and of folders of splits, by folder."""
        given = self._config.labels_file
        folders = ["", *(name for name in self._listing.folders if name.lower() in _SPLITS)]
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
        tops = {_top(name) for name in self._listing.images} - {""}
        named = {name for name in tops if name.lower() in _SPLITS}
        labelled = {_top(name) for name in self._listing.images if name.count("/") > 1} | with_table
        alone = tops <= named | self._unlabelled
        for folders in (named & labelled, named if alone else set()):
            roots = {_SPLITS[name.lower()]: name for name in sorted(folders, reverse=True)}
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

    def _read_table(self, root: str, path: Path, tables: Iterable[str]) -> ImageLabels | None:
        """Read the table of labels of a folder; None if it has no labels, as `metadata.csv` may."""
        config, images = self._config, self._listing.images
        return read_labels(
            path,
            [name for name in images if _top(name) == root or (not root and _top(name) not in tables)],
            root,
            note=self._note,
            label=config.label,
            file=config.file,
            marker=config.labels.column,
            on_error=config.damage_policy,
            required=config.labels_file is not None or path.stem != "metadata",
        )

    def _class_folders(self, root: str, images: Sequence[str]) -> dict[str, str]:
        """Return image -> class, the folder below the root."""
        prefix = f"{root}/" if root else ""
        tops = {name: _top(name.removeprefix(prefix)) for name in images}
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


def _top(name: str) -> str:
    """Return the top folder of a path, '' for a file that is in no folder."""
    return name.split("/")[0] if "/" in name else ""


def _contents(folder: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return ", ".join(entries[:8]) + (", ..." if len(entries) > 8 else "") if entries else "nothing"

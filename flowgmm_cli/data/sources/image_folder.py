"""Folders of images: a folder for each class, or a table of labels; split by folders, or not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm_cli.data.images.files import Listing, pictures_of
from flowgmm_cli.data.sources.image_labels import LABELS, TableLabels, read_labels
from flowgmm_cli.data.sources.image_parts import Found, Part, objects
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    from flowgmm_cli.data.images.specs import ImagesConfig

_SPLITS = {"train": ("train",), "test": ("test",), "val": ("val", "valid", "validation")}
_SPELT = {"unlabelled": "unlabeled"}  # the American way, where the name is the default


def find_in_folder(folder: Path, listing: Listing, config: ImagesConfig) -> Found:
    """The images below a folder, which are listed, each split with its labels.

    Raises:
        DataError: there are none, or a table of labels does not fit them.
    """
    if not listing.images:
        raise DataError(
            f"the folder {config.path} holds no image", details=[f"it holds: {_contents(folder)}"],
            hint="a folder of images for each class is needed, or images and a table of labels, labels.csv",
        )  # fmt: skip
    layout = _Folder(folder, listing, config)
    roots = layout.split_roots()
    if roots:
        return layout.of_roots(roots)
    images = listing.images
    return Found({"train": layout.part("", images)}, notes=layout.notes)


class _Folder:
    def __init__(self, folder: Path, listing: Listing, config: ImagesConfig) -> None:
        self._folder = folder
        self._listing = listing
        self._config = config
        self._unlabelled = {config.unlabelled, _SPELT.get(config.unlabelled, config.unlabelled)}
        self.notes: list[str] = []
        others = {suffix: n for suffix, n in listing.others.items() if suffix not in (".csv", ".tsv", ".md")}
        if others:
            kinds = ", ".join(f"{n:,} {suffix or 'without a suffix'}" for suffix, n in sorted(others.items()))
            self.notes.append(f"{config.path}: files that are no images are left out ({kinds})")

    def split_roots(self) -> dict[str, str]:
        """Split -> the folder of its images; empty where the folders at the top are classes."""
        roots = {
            split: name for split, names in _SPLITS.items() for name in reversed(names) if self._is_root(name)
        }
        return roots if "train" in roots else {}

    def of_roots(self, roots: dict[str, str]) -> Found:
        """The images of the splits, and those of the folder of unlabelled ones beside them."""
        parts = {}
        used = set(roots.values())
        images = self._listing.images
        for split, root in roots.items():
            own = [name for name in images if name.startswith(f"{root}/")]
            extra: list[str] = []
            if split == "train":
                extra = [name for name in images if name.split("/")[0] in self._unlabelled - used]
                used |= {name.split("/")[0] for name in extra}
            parts[split] = self.part(root, own, extra)
        left = sorted({name.split("/")[0] for name in images if name.split("/")[0] not in used})
        if left:
            listed = ", ".join(left[:8])
            self.notes.append(f"{self._config.path}: beside {', '.join(roots.values())}, left out: {listed}")
        return Found(parts, notes=self.notes)

    def part(self, root: str, images: Sequence[str], unlabelled: Sequence[str] = ()) -> Part:
        """The images below a root, with more that have no label."""
        names = [*images, *unlabelled]
        table = self._table(root)
        if table is not None:
            found: TableLabels = read_labels(table, images, root, self._config, self.notes)
            labels = [*found.labels, *(None for _ in unlabelled)]
            extras = {
                key: objects([*cells, *(None for _ in unlabelled)]) for key, cells in found.extras.items()
            }
        else:
            labels = [*self._classes(root, images), *(None for _ in unlabelled)]
            extras = {}
        paths = objects(names)
        return Part(pictures_of(self._folder, names), objects(labels), paths, {**extras, "path": paths})

    def _is_root(self, name: str) -> bool:
        """Whether a folder at the top has classes or labels of its own, and is not a class by itself."""
        if name not in self._listing.folders:
            return False
        inner = any(image.startswith(f"{name}/") and image.count("/") > 1 for image in self._listing.images)
        return inner or self._table(name) is not None

    def _table(self, root: str) -> Path | None:
        """The table of labels of a root; None where folders are the labels."""
        base = self._folder / root
        given = self._config.labels_file
        if given is None:
            return base / LABELS if (base / LABELS).is_file() else None
        beside = base / Path(given).expanduser()
        if beside.is_file():
            return beside
        if root and not (self._folder / given).is_file():
            return None
        if Path(given).expanduser().is_file():
            return Path(given).expanduser()
        near = [
            entry.name for entry in base.iterdir() if entry.suffix in (".csv", ".tsv", ".jsonl", ".parquet")
        ]
        raise DataError(
            f"{self._config.path} has no file {given} (data.labels_file)",
            details=[f"tables there: {', '.join(sorted(near)[:8])}"] if near else [],
            hint="name it by its path in the folder",
        )

    def _classes(self, root: str, images: Sequence[str]) -> list[str | None]:
        """The class of each image: the folder below the root that it is in."""
        depth = 1 if root else 0
        inner = [name.split("/")[depth:] for name in images]
        labels = [
            parts[0] if len(parts) > 1 and parts[0] not in self._unlabelled else None for parts in inner
        ]
        loose = sum(len(parts) == 1 for parts in inner)
        what = f"{self._config.path}/{root}" if root else self._config.path
        if loose == len(inner):
            self.notes.append(f"{what}: no folders of classes and no {LABELS}, so no image has a label")
        elif loose:
            self.notes.append(
                f"{what}: {loose:,} of {len(inner):,} images lie in no folder of a class: no label"
            )
        full = {parts[0] for parts in inner if len(parts) > 1}
        prefix = f"{root}/" if root else ""
        empty = [
            name.removeprefix(prefix)
            for name in self._listing.folders
            if name.startswith(prefix) and name.count("/") == depth and name.removeprefix(prefix) not in full
        ]
        if empty:
            self.notes.append(f"{what}: folders without an image are no classes: {', '.join(empty[:8])}")
        return labels


def _contents(folder: Path) -> str:
    there = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") if there else "nothing"

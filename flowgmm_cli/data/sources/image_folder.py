"""Read folders of images, with a folder for each class or a table of labels, and folders of splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flowgmm_cli.data.images.encoded_images import Listing, images_in_folder
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.sources.image_labels import LABELS_FILE, read_labels
from flowgmm_cli.data.sources.image_set import ImageSet, ImageSplit, object_array
from flowgmm_cli.errors import DataError

_SPLITS = {"train": ("train",), "test": ("test",), "val": ("val", "valid", "validation")}
_SPELLINGS = {"unlabelled": "unlabeled"}  # the American spelling of the default name


def read_folder_images(folder: Path, listing: Listing, config: ImagesConfig) -> ImageSet:
    """Read the images of a folder listing, each split with its labels."""
    if not listing.images:
        raise DataError(
            f"the folder {config.path} holds no image", details=[f"it holds: {_contents(folder)}"],
            hint="a folder of images for each class is needed, or images and a table of labels, labels.csv",
        )  # fmt: skip
    layout = _Folder(folder, listing, config)
    roots = layout.split_roots()
    if roots:
        return layout.read_roots(roots)
    return ImageSet({"train": layout.read_split("", listing.images)}, notes=layout.notes)


class _Folder:
    """A folder of images whose layout is inferred from its subfolders and tables."""

    def __init__(self, folder: Path, listing: Listing, config: ImagesConfig) -> None:
        self._folder = folder
        self._listing = listing
        self._config = config
        self._unlabelled = {config.unlabelled, _SPELLINGS.get(config.unlabelled, config.unlabelled)}
        self.notes: list[str] = []
        others = {suffix: n for suffix, n in listing.others.items() if suffix not in (".csv", ".tsv", ".md")}
        if others:
            kinds = ", ".join(f"{n:,} {suffix or 'without a suffix'}" for suffix, n in sorted(others.items()))
            self.notes.append(f"{config.path}: files that are not images are left out ({kinds})")

    def split_roots(self) -> dict[str, str]:
        """Return split -> folder of its images; empty if the top folders are classes."""
        roots = {
            split: name for split, names in _SPLITS.items() for name in reversed(names) if self._is_root(name)
        }
        return roots if "train" in roots else {}

    def read_roots(self, roots: dict[str, str]) -> ImageSet:
        """Read the images of the splits, and those of an `unlabelled` folder beside them."""
        splits = {}
        used = set(roots.values())
        images = self._listing.images
        for split, root in roots.items():
            own = [name for name in images if name.startswith(f"{root}/")]
            extra: list[str] = []
            if split == "train":
                extra = [name for name in images if name.split("/")[0] in self._unlabelled - used]
                used |= {name.split("/")[0] for name in extra}
            splits[split] = self.read_split(root, own, extra)
        unused = sorted({name.split("/")[0] for name in images if name.split("/")[0] not in used})
        if unused:
            listed = ", ".join(unused[:8])
            self.notes.append(f"{self._config.path}: beside {', '.join(roots.values())}, left out: {listed}")
        return ImageSet(splits, notes=self.notes)

    def read_split(self, root: str, images: Sequence[str], unlabelled: Sequence[str] = ()) -> ImageSplit:
        """Read the images below a root, and further images without labels."""
        names = [*images, *unlabelled]
        table = self._table(root)
        if table is not None:
            labels, columns = read_labels(table, images, root, self._config, self.notes)
        else:
            labels, columns = self._class_folders(root, images), {}
        none = [None] * len(unlabelled)
        paths = object_array(names)
        extras = {key: object_array([*column, *none]) for key, column in columns.items()} | {"path": paths}
        return ImageSplit(
            images_in_folder(self._folder, names), object_array([*labels, *none]), paths, extras
        )

    def _is_root(self, name: str) -> bool:
        """Return True if a top folder has class folders or a label table, so is not a class itself."""
        if name not in self._listing.folders:
            return False
        inner = any(image.startswith(f"{name}/") and image.count("/") > 1 for image in self._listing.images)
        return inner or self._table(name) is not None

    def _table(self, root: str) -> Path | None:
        """Return the table of labels of a root; None if its folders are the classes."""
        base = self._folder / root
        given = self._config.labels_file
        if given is None:
            return base / LABELS_FILE if (base / LABELS_FILE).is_file() else None
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
            hint="give its path in the folder",
        )

    def _class_folders(self, root: str, images: Sequence[str]) -> list[str | None]:
        """Return the class of each image: its folder below the root."""
        depth = 1 if root else 0
        inner = [name.split("/")[depth:] for name in images]
        labels = [
            parts[0] if len(parts) > 1 and parts[0] not in self._unlabelled else None for parts in inner
        ]
        loose = sum(len(parts) == 1 for parts in inner)
        what = f"{self._config.path}/{root}" if root else self._config.path
        if loose == len(inner):
            self.notes.append(f"{what}: no class folders and no {LABELS_FILE}, so no image has a label")
        elif loose:
            self.notes.append(
                f"{what}: {loose:,} of {len(inner):,} images are in no class folder and have no label"
            )
        full = {parts[0] for parts in inner if len(parts) > 1}
        prefix = f"{root}/" if root else ""
        empty = [
            name.removeprefix(prefix)
            for name in self._listing.folders
            if name.startswith(prefix) and name.count("/") == depth and name.removeprefix(prefix) not in full
        ]
        if empty:
            self.notes.append(f"{what}: folders without images are not classes: {', '.join(empty[:8])}")
        return labels


def _contents(folder: Path) -> str:
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    return ", ".join(entries[:8]) + (", ..." if len(entries) > 8 else "") if entries else "nothing"

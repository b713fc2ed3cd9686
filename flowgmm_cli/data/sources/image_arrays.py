"""Images in arrays: npz and npy files, and IDX files, the format of MNIST."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.data.images.arrays import as_pixels
from flowgmm_cli.data.readers.array_files import open_idx
from flowgmm_cli.data.readers.byte_source import find_source
from flowgmm_cli.data.sources.arrays import from_npy, from_npz, names_in
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.data.sources.image_parts import Found, Part
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.images.specs import ImagesConfig

    Array = npt.NDArray[Any]

_X = {
    "train": ("x", "x_train", "train_images"),
    "test": ("x_test", "test_images"),
    "val": ("x_val", "val_images"),
}
_Y = {
    "train": ("y", "y_train", "train_labels"),
    "test": ("y_test", "test_labels"),
    "val": ("y_val", "val_labels"),
}
_NAMES = ("names", "class_names")
_IDX = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)[-.]images[-.]idx\d[-.]ubyte(\.gz)?", re.IGNORECASE)
_READ = 8192  # rows at once


def is_idx(name: str) -> bool:
    """Whether a file's name is that of an IDX file.

    >>> is_idx("t10k-images-idx3-ubyte.gz"), is_idx("letters.idx"), is_idx("a.gz")
    (True, True, False)
    """
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(("ubyte", ".idx"))


def idx_files(folder: Path) -> dict[str, Path]:
    """Split -> the file of its images, of those in a folder that are named like MNIST's.

    Raises:
        DataError: there are several such sets.
    """
    found: dict[str, dict[str, Path]] = {}
    for file in sorted(
        folder.iterdir(), reverse=True
    ):  # an unzipped file comes before a zipped one, and wins
        match = _IDX.fullmatch(file.name)
        if match and file.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            found.setdefault(match["set"], {})[split] = file
    if len(found) > 1:
        raise DataError(
            f"{folder} holds several sets of IDX files",
            details=[file.name for files in found.values() for file in files.values()],
            hint="set data.path and data.test_path to two of them",
        )
    return next(iter(found.values()), {})


def find_in_idx(files: dict[str, Path], config: ImagesConfig) -> Found:
    """The images of IDX files by split, with the labels that lie beside them."""
    notes = []
    if "train" not in files:
        only = next(iter(files.values()))
        notes.append(f"{only.name} is all there is; data.split.test sets rows aside for the test")
        files = {"train": only}
    parts = {}
    for split, file in files.items():
        pixels, note = as_pixels(_idx(file), where=file.name)
        labels = _idx_labels(file, len(pixels), notes)
        notes += [note] if note else []
        parts[split] = Part(pixels, labels, row_ids(split, len(pixels)))
    return Found(parts, _given_names(config), notes)


def find_in_npz(file: Path, config: ImagesConfig) -> Found:
    """The images of an npz file, or of an npy file, to which the labels are named by `y`."""
    if file.suffix == ".npy":
        return _find_in_npy(file, config)
    there = names_in(file)
    notes: list[str] = []
    parts = {}
    asked = {"train": (config.x, config.y), "test": (config.x_test, config.y_test), "val": (None, None)}
    for split, (x, y) in asked.items():
        name = x or _first(_X[split], there)
        if name is None and split != "train":
            continue
        pixels, note = as_pixels(
            from_npz(file, name or "x", _key("x", split)), where=f"{file.name}, `{name}`"
        )
        notes += [note] if note else []
        own = y or _first(_Y[split], there)
        labels = np.full(len(pixels), -1)
        if own is None:
            notes.append(f"{file.name} has no labels of `{name}`")
        else:
            labels = _flat(from_npz(file, own, _key("y", split)), len(pixels), f"{file.name}, `{own}`")
        parts[split] = Part(pixels, labels, row_ids(split, len(pixels)))
    named = _first(_NAMES, there)
    names = _given_names(config)
    if names is None and named is not None:
        names = tuple(str(one) for one in from_npz(file, named, "data.class_names").tolist())
    return Found(parts, names, notes)


def _find_in_npy(file: Path, config: ImagesConfig) -> Found:
    pairs = {"train": (str(file), config.y), "test": (config.x_test, config.y_test)}
    parts = {}
    notes: list[str] = []
    for split, (x, y) in pairs.items():
        if x is None:
            continue
        mapped = from_npy(existing_file(x), mapped=True)
        pixels, note = as_pixels(mapped, where=Path(x).name)
        notes += [note] if note else []
        labels = np.full(len(pixels), -1)
        if y is None:
            notes.append(f"{Path(x).name} comes without labels; {_key('y', split)} names the file of them")
        else:
            labels = _flat(from_npy(existing_file(y)), len(pixels), Path(y).name)
        parts[split] = Part(pixels, labels, row_ids(split, len(pixels)))
    return Found(parts, _given_names(config), notes)


def _given_names(config: ImagesConfig) -> tuple[str, ...] | None:
    return None if config.class_names is None else tuple(config.class_names)


def _first(names: Sequence[str], there: Sequence[str]) -> str | None:
    return next((name for name in names if name in there), None)


def _key(name: str, split: str) -> str:
    return f"data.{name}" if split == "train" else f"data.{name}_{split}"


def _flat(labels: Array, count: int, where: str) -> Array:
    """Labels `(N,)`, also of a column `(N, 1)`."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise DataError(f"{where}: {count:,} images, but labels of shape {labels.shape}")
    return labels


def _idx(file: Path) -> Array:
    try:
        stored = open_idx(find_source(str(file)))
        return np.concatenate(
            [np.empty((0, *stored.row_shape), stored.dtype.newbyteorder("=")), *stored.read(_READ)]
        )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file} cannot be read as an IDX file: {error}", hint="it is damaged or cut short; get it again"
        ) from error


def _idx_labels(images: Path, count: int, notes: list[str]) -> Array:
    name = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for beside in (name, f"{name}.gz", name.removesuffix(".gz")):
        if beside != images.name and images.with_name(beside).is_file():
            return _flat(_idx(images.with_name(beside)), count, beside)
    notes.append(f"no label is known: there is no {name} beside {images.name}")
    return np.full(count, -1)

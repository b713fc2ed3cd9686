"""Read images from arrays: npz and npy files, and IDX files, the format of MNIST."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.images.arrays import as_pixels
from flowgmm_cli.data.images.specs import ImagesConfig
from flowgmm_cli.data.readers.array_files import open_idx
from flowgmm_cli.data.readers.byte_source import find_source
from flowgmm_cli.data.sources.arrays import npz_names, read_npy, read_npz
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.data.sources.image_set import ImageSet, ImageSplit
from flowgmm_cli.errors import DataError

_NAMES = ("names", "class_names")
_IDX = re.compile(r"(?P<set>.*?)(?P<split>train|t10k|test)[-.]images[-.]idx\d[-.]ubyte(\.gz)?", re.IGNORECASE)
_BATCH_ROWS = 8192


def is_idx(name: str) -> bool:
    """Return True for the name of an IDX file.

    >>> is_idx("t10k-images-idx3-ubyte.gz"), is_idx("letters.idx"), is_idx("a.gz")
    (True, True, False)
    """
    plain = name.lower().removesuffix(".gz")
    return plain.endswith(("ubyte", ".idx"))


def idx_files(folder: Path) -> dict[str, Path]:
    """Return split -> image file of the files in a folder that are named like those of MNIST."""
    sets: dict[str, dict[str, Path]] = {}
    for file in sorted(folder.iterdir(), reverse=True):  # the unzipped file comes last and wins
        match = _IDX.fullmatch(file.name)
        if match and file.is_file():
            split = "train" if match["split"].lower() == "train" else "test"
            sets.setdefault(match["set"], {})[split] = file
    if len(sets) > 1:
        raise DataError(
            f"{folder} holds several sets of IDX files",
            details=[file.name for files in sets.values() for file in files.values()],
            hint="set data.path and data.test_path to two of them",
        )
    return next(iter(sets.values()), {})


def read_idx_images(files: dict[str, Path], config: ImagesConfig) -> ImageSet:
    """Read the images of IDX files by split, and the labels from the files beside them."""
    notes = []
    if "train" not in files:
        only = next(iter(files.values()))
        notes.append(f"{only.name} is the only file; data.split.test sets rows aside for the test")
        files = {"train": only}
    splits = {}
    for split, file in files.items():
        labels, label_name = _idx_labels(file, notes)
        splits[split] = _image_split(split, _read_idx(file), file.name, labels, label_name, notes)
    return ImageSet(splits, _class_names(config), notes)


def read_array_images(file: Path, config: ImagesConfig) -> ImageSet:
    """Read the images of an npz file, or of an npy file, whose labels `config.y` names."""
    if file.suffix == ".npy":
        return _read_npy_images(file, config)
    available = npz_names(file)
    notes: list[str] = []
    splits = {}
    configured = {"train": (config.x, config.y), "test": (config.x_test, config.y_test), "val": (None, None)}
    for split, (x, y) in configured.items():
        name = x or _find_array("x", "images", split, available)
        if name is None and split != "train":
            continue
        array = read_npz(file, name or "x", _key("x", split))
        label_name = y or _find_array("y", "labels", split, available)
        if label_name is None:
            notes.append(f"{file.name} has no labels of `{name}`")
        labels = None if label_name is None else read_npz(file, label_name, _key("y", split))
        splits[split] = _image_split(
            split, array, f"{file.name}, `{name}`", labels, f"{file.name}, `{label_name}`", notes
        )
    names = _class_names(config)
    if names is None and (array_name := _first(_NAMES, available)) is not None:
        names = tuple(map(str, read_npz(file, array_name, "data.class_names").tolist()))
    return ImageSet(splits, names, notes)


def _read_npy_images(file: Path, config: ImagesConfig) -> ImageSet:
    pairs = {"train": (str(file), config.y), "test": (config.x_test, config.y_test)}
    splits = {}
    notes: list[str] = []
    for split, (x, y) in pairs.items():
        if x is None:
            continue
        name = Path(x).name
        if y is None:
            notes.append(f"{name} has no labels; {_key('y', split)} can name a file of labels")
        labels = None if y is None else read_npy(require_file(y))
        array = read_npy(require_file(x), mapped=True)
        splits[split] = _image_split(split, array, name, labels, Path(y or x).name, notes)
    return ImageSet(splits, _class_names(config), notes)


def _image_split(
    split: str, array: Array, where: str, labels: Array | None, labels_where: str, notes: list[str]
) -> ImageSplit:
    """Return a split of an array of images and its labels, `(N,)` or `(N, 1)`; None means unlabelled."""
    pixels, note = as_pixels(array, where=where)
    notes += [note] if note else []
    if labels is None:
        labels = np.full(len(pixels), -1)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.shape != (len(pixels),):
        raise DataError(f"{labels_where}: {len(pixels):,} images, but labels of shape {labels.shape}")
    return ImageSplit(pixels, labels, row_ids(split, len(pixels)))


def _class_names(config: ImagesConfig) -> tuple[str, ...] | None:
    return None if config.class_names is None else tuple(config.class_names)


def _find_array(key: str, content: str, split: str, available: Sequence[str]) -> str | None:
    """Return the array of a split among those that are there, such as `x`, `x_train` or `train_images`."""
    main = (key,) if split == "train" else ()
    return _first((*main, f"{key}_{split}", f"{split}_{content}"), available)


def _first(names: Sequence[str], available: Sequence[str]) -> str | None:
    return next((name for name in names if name in available), None)


def _key(name: str, split: str) -> str:
    return f"data.{name}" if split == "train" else f"data.{name}_{split}"


def _read_idx(file: Path) -> Array:
    try:
        stored = open_idx(find_source(str(file)))
        return np.concatenate(
            [np.empty((0, *stored.row_shape), stored.dtype.newbyteorder("=")), *stored.read(_BATCH_ROWS)]
        )
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{file} cannot be read as an IDX file: {error}", hint="it is damaged or cut short; get it again"
        ) from error


def _idx_labels(images: Path, notes: list[str]) -> tuple[Array | None, str]:
    """Return the labels in the file beside an IDX file of images, and the name of that file."""
    name = images.name.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    for beside in (name, f"{name}.gz", name.removesuffix(".gz")):
        if beside != images.name and images.with_name(beside).is_file():
            return _read_idx(images.with_name(beside)), beside
    notes.append(f"no labels: there is no {name} beside {images.name}")
    return None, name

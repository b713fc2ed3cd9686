"""Source `arrays`: NumPy files, such as precomputed embeddings. Never unpickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Array, Ints, Strings
from flowgmm_cli.data.labels import UNLABELLED, encode_labels
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.sources.files import require_file
from flowgmm_cli.data.specs import ArraysConfig
from flowgmm_cli.errors import DataError, did_you_mean


class ArraysSource:
    """A vector column `x` of shape `(N, ...)`."""

    def __init__(self, config: ArraysConfig) -> None:
        self._config = config

    def load(self) -> SourceData:
        """Read the arrays."""
        config = self._config
        read, notes = self._array_reader(), []
        x = {"train": _as_features(read(config.x, "data.x"), "data.x")}
        y = {"train": read(config.y, "data.y")}
        if config.x_test == "test" and not self._has_array(config.x_test):
            notes.append(f"{config.path} has no array `test`")
        elif config.x_test is not None:
            if config.y_test is None:
                raise DataError(
                    "data.x_test is set, but data.y_test is not: nothing can be tested without labels"
                )
            x["test"] = _as_features(read(config.x_test, "data.x_test"), "data.x_test")
            y["test"] = read(config.y_test, "data.y_test")
            if x["test"].shape[1:] != x["train"].shape[1:]:
                raise DataError(
                    f"{config.path}: test rows have shape {x['test'].shape[1:]}, "
                    f"training rows {x['train'].shape[1:]}"
                )
        for split in x:
            if y[split].shape != (len(x[split]),):
                raise DataError(
                    f"{config.path}: {len(x[split]):,} {split} rows, but labels of shape {y[split].shape}"
                )
        class_names, labels = encode_label_arrays(
            y,
            config.class_names,
            where=f"{config.path}: `{config.y}`",
            note=notes.append,
            single_class=config.labels.single_class,
        )
        splits = {
            split: Rows({"x": rows}, labels[split], row_ids(split, len(rows))) for split, rows in x.items()
        }
        column = Column("x", "vector", x["train"].shape[1:])
        return SourceData((column,), class_names, splits, tuple(notes))

    def _array_reader(self) -> Callable[[str, str], Array]:
        file = require_file(self._config.path)
        if file.suffix == ".npz":
            return lambda name, key: read_npz(file, name, key)
        if file.suffix == ".npy":
            return lambda name, key: read_npy(file if key == "data.x" else require_file(name))
        raise DataError(f"{self._config.path} is neither an npz nor an npy file")

    def _has_array(self, name: str) -> bool:
        file = require_file(self._config.path)
        return file.suffix == ".npz" and name in npz_names(file)


def encode_label_arrays(
    y: Mapping[str, Array], names: Sequence[str] | None, **options: Any
) -> tuple[tuple[str, ...], dict[str, Ints]]:
    """Return class names and int64 codes of label arrays; with `names`, labels are indices into them.

    `options` are those of `encode_labels`.
    """
    cells = {split: label_strings(labels) for split, labels in y.items()}
    if names is None:
        return encode_labels(cells, **options)
    codes = [str(index) for index in range(len(names))]
    known = {None, UNLABELLED, *codes}
    for column in cells.values():
        if unknown := next((cell for cell in column if cell not in known), None):
            raise DataError(f"label {unknown} is not an index into the {len(names)} data.class_names")
    return tuple(names), encode_labels(cells, codes)[1]


def npz_names(file: Path) -> list[str]:
    """Return the names of the arrays in an npz file. Raises `DataError` if it is not an npz file."""
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception as error:  # a damaged zip file raises many types
        raise DataError(f"{file} cannot be read as an npz file: {error}") from error


def read_npz(file: Path, name: str, key: str) -> Array:
    """Read an array of an npz file; `key` is the recipe key that names it."""
    if name not in (names := npz_names(file)):
        raise DataError(
            f"{file} has no array `{name}` ({key}){did_you_mean(name, names)}",
            details=[f"arrays: {', '.join(names)}"],
        )
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            array: Array = archive[name]
            return array
    except Exception as error:
        raise DataError(f"{file}: array `{name}` cannot be read: {error}") from error


def read_npy(file: Path, *, mapped: bool = False) -> Array:
    """Read the array of an npy file, memory-mapped if `mapped`. Raises `DataError` if it cannot be read."""
    try:
        array: Array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:
        raise DataError(f"{file} cannot be read as an npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is not an npy file")
    return array


def _as_features(array: Array, key: str) -> Array:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{key} must be a non-empty array of real numbers (N, ...), got {array.dtype} {array.shape}"
        )
    return array


def label_strings(labels: Array) -> Strings:
    """Return labels as strings, None for NaN and ''."""
    if labels.dtype.kind in "SU":
        return strip_strings(labels)
    if labels.dtype.kind == "f":
        missing = np.isnan(labels)
        if (labels[~missing] != np.round(labels[~missing])).any():
            raise DataError("labels must be whole numbers or strings")
        texts = np.where(missing, 0, labels).astype(np.int64).astype(str).astype(object)
        texts[missing] = None
        return texts
    if labels.dtype.kind in "iub":
        return np.array([str(label) for label in labels.tolist()], dtype=object)
    raise DataError(f"labels must be whole numbers or strings, got {labels.dtype}")


def strip_strings(array: Array) -> Strings:
    """Return strings without blanks around them, None for empty ones, and whole numbers as strings."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        return np.array([cell.strip() or None for cell in array.tolist()], dtype=object)
    return np.array([str(int(cell)) for cell in array.tolist()], dtype=object)


def build(config: ArraysConfig, context: DataContext) -> ArraysSource:
    """Build the source."""
    return ArraysSource(config)

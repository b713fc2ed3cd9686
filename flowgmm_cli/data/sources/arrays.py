"""Source `arrays`: NumPy files, such as embeddings made elsewhere. Never unpickles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.sources.columns import code_labels, lookup, row_ids
from flowgmm_cli.data.sources.files import existing_file
from flowgmm_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.specs import ArraysConfig

    Array = npt.NDArray[Any]


class ArraysSource:
    """One vector column `x` of shape `(N, ...)`."""

    def __init__(self, config: ArraysConfig) -> None:
        self._config = config

    def load(self) -> SourceData:
        """Read the arrays."""
        config = self._config
        read, notes = self._reader(), []
        x = {"train": _features(read(config.x, "data.x"), "data.x")}
        y = {"train": read(config.y, "data.y")}
        if config.x_test == "test" and not self._has(config.x_test):
            notes.append(f"{config.path} has no array `test`")
        elif config.x_test is not None:
            if config.y_test is None:
                raise DataError(
                    "data.x_test is set, but data.y_test is not: nothing can be tested without labels"
                )
            x["test"] = _features(read(config.x_test, "data.x_test"), "data.x_test")
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
        class_names, labels = code_named(y, config.class_names)
        splits = {
            split: Rows({"x": rows}, labels[split], row_ids(split, len(rows))) for split, rows in x.items()
        }
        column = Column("x", "vector", x["train"].shape[1:])
        return SourceData((column,), class_names, splits, tuple(notes))

    def _reader(self) -> Callable[[str, str], Array]:
        file = existing_file(self._config.path)
        if file.suffix == ".npz":
            return lambda name, key: from_npz(file, name, key)
        if file.suffix == ".npy":
            return lambda name, key: from_npy(file if key == "data.x" else existing_file(name))
        raise DataError(f"{self._config.path} is neither an npz nor an npy file")

    def _has(self, name: str) -> bool:
        file = existing_file(self._config.path)
        return file.suffix == ".npz" and name in names_in(file)


def code_named(
    y: Mapping[str, Array], names: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """Class names and int64 codes of label arrays; whole numbers are indices into `names`, if there are any.

    Raises:
        DataError: a label is no such index.
    """
    cells = {split: label_strings(labels) for split, labels in y.items()}
    if names is None:
        return code_labels(cells)
    code: dict[Any, int] = {None: -1} | {str(index): index for index in range(len(names))}
    for column in cells.values():
        if foreign := next((cell for cell in column if cell not in code), None):
            raise DataError(f"label {foreign} is no index into the {len(names)} data.class_names")
    return tuple(names), {split: lookup(column, code.__getitem__) for split, column in cells.items()}


def names_in(file: Path) -> list[str]:
    """Names of the arrays in an npz file.

    Raises:
        DataError: it is none.
    """
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception as error:  # a damaged zip file raises many things
        raise DataError(f"{file} cannot be read as an npz file: {error}") from error


def from_npz(file: Path, name: str, key: str) -> Array:
    """An array of an npz file; `key` is the recipe key that asks for it.

    Raises:
        DataError: there is none of that name, or it cannot be read.
    """
    if name not in (names := names_in(file)):
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


def from_npy(file: Path, *, mapped: bool = False) -> Array:
    """The array of an npy file, `mapped` into memory if that is asked for.

    Raises:
        DataError: it cannot be read.
    """
    try:
        array: Array = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
    except Exception as error:
        raise DataError(f"{file} cannot be read as an npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{file} is not an npy file")
    return array


def _features(array: Array, key: str) -> Array:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim == 0 or array.size == 0 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{key} must be a non-empty array of real numbers (N, ...), got {array.dtype} {array.shape}"
        )
    return array


def label_strings(labels: Array) -> npt.NDArray[np.object_]:
    """Labels as strings, None for -1, NaN and ''."""
    if labels.dtype.kind == "f":
        if not (np.isnan(labels) | (labels == np.round(labels))).all():
            raise DataError("labels must be whole numbers or strings")
        labels = np.where(np.isnan(labels), -1, labels).astype(np.int64)
    if labels.dtype.kind in "iub":
        return np.array([None if label < 0 else str(int(label)) for label in labels.tolist()], dtype=object)
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8")
    if labels.dtype.kind == "U":
        return np.array([label.strip() or None for label in labels.tolist()], dtype=object)
    raise DataError(f"labels must be whole numbers or strings, got {labels.dtype}")


def build(config: ArraysConfig, context: DataContext) -> ArraysSource:
    """Build the source."""
    return ArraysSource(config)

"""Source `arrays`: NumPy files, such as precomputed embeddings. Never unpickles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Array, Strings
from flowgmm_cli.data.labels import UNLABELLED, encode_labels
from flowgmm_cli.data.readers.array_files import UNNAMED, StoredArray, find_array_format, open_arrays
from flowgmm_cli.data.readers.byte_source import find_source
from flowgmm_cli.data.sources.columns import row_ids, strings
from flowgmm_cli.data.specs import ArraysConfig
from flowgmm_cli.errors import DataError, did_you_mean


class ArraysSource:
    """A vector column `x` of shape `(N, ...)`."""

    def __init__(self, config: ArraysConfig, context: DataContext) -> None:
        self._config = config

    def load(self) -> SourceData:
        """Read the arrays."""
        config = self._config
        file = ArrayFile(config.path)
        if file.format == "idx":
            raise DataError(f"{config.path} is neither an npz nor an npy file")
        notes: list[str] = []
        stored = {"train": (file.find(config.x, "data.x"), file.find(config.y, "data.y"))}
        if config.x_test == "test" and "test" not in file.arrays:
            notes.append(f"{config.path} has no array `test`")
        elif config.x_test is not None:
            if config.y_test is None:
                raise DataError(
                    "data.x_test is set, but data.y_test is not: nothing can be tested without labels"
                )
            x_test = file.find(config.x_test, "data.x_test")
            stored["test"] = (x_test, file.find(config.y_test, "data.y_test"))
        x, labels = {}, {}
        for split, (rows, row_labels) in stored.items():
            labels[split] = read_array_labels(rows, row_labels, config.class_names)
            if rows.row_shape != stored["train"][0].row_shape:
                raise DataError(
                    f"{config.path}: test rows have shape {rows.row_shape}, "
                    f"training rows {stored['train'][0].row_shape}"
                )
            x[split] = _as_features(rows)
        class_names, codes = encode_labels(
            labels,
            config.class_names,
            where=f"{config.path}: `{config.y}`",
            note=notes.append,
            single_class=config.labels.single_class,
        )
        splits = {
            split: Rows({"x": rows}, codes[split], row_ids(split, len(rows))) for split, rows in x.items()
        }
        column = Column("x", "vector", x["train"].shape[1:])
        return SourceData((column,), class_names, splits, tuple(notes))


class ArrayFile:
    """The named arrays of a file; of an npy file, the names of others are those of further npy files."""

    def __init__(self, path: str) -> None:
        source = find_source(path)
        format = find_array_format(Path(source.name))
        if format is None:
            raise DataError(f"{path} is neither an npz nor an npy file")
        self.path = path
        self.format = format
        self.arrays = open_arrays(source, format)

    def find(self, name: str, key: str) -> StoredArray:
        """Return an array; `key` is the recipe key that names it. Raises `DataError` if it is missing."""
        if self.format == "npy":
            if key == "data.x":
                return self.arrays[UNNAMED]
            return open_arrays(find_source(name), "npy")[UNNAMED]
        if name not in self.arrays:
            raise DataError(
                f"{self.path} has no array `{name}` ({key}){did_you_mean(name, self.arrays)}",
                details=[f"arrays: {', '.join(self.arrays)}"],
            )
        return self.arrays[name]


def _as_features(stored: StoredArray) -> Array:
    if 0 in stored.shape or stored.dtype.kind not in "fiub":
        raise DataError(
            f"{stored.where} must be a non-empty array of real numbers (N, ...), got {stored.dtype} "
            f"{stored.shape}"
        )
    array = stored.load()
    return array[:, None] if array.ndim == 1 else array


def read_array_labels(x: StoredArray, y: StoredArray, names: Sequence[str] | None) -> Strings:
    """Read the labels of an array of rows, `(N,)` or `(N, 1)`, see `label_strings`."""
    if y.shape not in (x.shape[:1], (*x.shape[:1], 1)):
        raise DataError(f"{y.where}: {x.shape[0]:,} rows, but labels of shape {y.shape}")
    return label_strings(y.load(), names)


def label_strings(labels: Array, names: Sequence[str] | None = None) -> Strings:
    """Return labels `(N,)` or `(N, 1)` as strings, None for NaN and ''.

    With `names`, labels are indices into them, -1 for no label, and the strings are names.
    """
    if labels.dtype.kind not in "fiubSU":
        raise DataError(f"labels must be numbers or strings, got {labels.dtype}")
    cells = array_strings(labels.reshape(len(labels)))
    if names is None:
        return cells
    by_code: dict[str | None, str | None] = {str(code): name for code, name in enumerate(names)}
    by_code |= {None: None, UNLABELLED: None}
    if unknown := next((cell for cell in cells if cell not in by_code), None):
        raise DataError(f"label {unknown} is not an index into the {len(names)} data.class_names")
    return np.array([by_code[cell] for cell in cells], dtype=object)


def array_strings(array: Array) -> Strings:
    """Return numbers or strings `(N,)` as those of a table, see `strings`."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    return strings(pa.chunked_array([array.astype(np.float64) if array.dtype.kind == "f" else array]))


build = ArraysSource

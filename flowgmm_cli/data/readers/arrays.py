"""Reader of arrays: npz, npy and IDX files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.readers.cells import foreign_label_note, row_numbers
from flowgmm_cli.data.readers.faults import chunk_size, once, reading
from flowgmm_cli.data.readers.image_cells import ImageCells, images_fit
from flowgmm_cli.data.readers.schema import Chunk, InputSchema
from flowgmm_cli.data.readers.streams import StoredArray
from flowgmm_cli.data.sources.arrays import label_strings
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_FEATURES = ("x", "data", "test", "x_test", "test_images")
_LABELS = ("y", "label", "labels")
_NAMES = "names"
_NO_NAME = ""  # of the one array of an npy or IDX file
_DTYPES = {"numeric": "fiub", "vector": "fiub", "image": "fiub", "category": "USiub", "text": "US"}


class ArrayReader:
    """Rows of named arrays.

    A column is the array of its name. A model of one vector column takes instead one of the usual names, or
    the only array whose rows have the right shape; a model of numbers alone takes a matrix with as many
    columns.

    Args:
        arrays: by name; an npy or IDX file has one, named ''.
        schema: what the model reads.
        name: the input's.
        context: is told which arrays were taken, where that is not plain.
        chunk_rows: rows of a chunk.

    Raises:
        DataError: no array fits.
    """

    def __init__(
        self,
        arrays: Mapping[str, StoredArray],
        schema: InputSchema,
        *,
        name: str,
        context: DataContext,
        chunk_rows: int,
    ) -> None:
        self.name = name
        self._arrays = arrays
        self._schema = schema
        self._size = chunk_size(chunk_rows, schema.columns)
        self._note = once(context)
        self._chosen = self._choose()
        lengths = {self._arrays[array].shape[0] for array in self._chosen.values()}
        if len(lengths) > 1:
            raise self._unfit(f"arrays differ in length: {', '.join(map(str, sorted(lengths)))}")
        self.total: int | None = lengths.pop()
        if self.total == 0:
            raise DataError(f"{name} has no rows")
        self._labels = self._label_array(next(iter(self._chosen.values())))
        self._ids = self._id_array()
        self._images = {
            column.name: self._image_cells(column) for column in schema.columns if column.kind == "image"
        }

    def __iter__(self) -> Iterator[Chunk]:
        names = dict.fromkeys([*self._chosen.values(), *(one for one in (self._labels, self._ids) if one)])
        start = 0
        with reading(self.name, "arrays"):
            streams = [self._arrays[name].read(self._size) for name in names]
            for parts in zip(*streams, strict=True):
                found = dict(zip(names, parts, strict=True))
                count = len(parts[0])
                columns = {
                    column.name: self._cells(column, index, found[self._chosen[column.name]])
                    for index, column in enumerate(self._schema.columns)
                }
                ids = found[self._ids].astype(str).astype(object) if self._ids else row_numbers(start, count)
                labels = np.full(count, -1, dtype=np.int64)
                if self._labels:
                    labels = self._codes(found[self._labels])
                yield Chunk(Rows(columns, labels, ids), start)
                start += count

    def _choose(self) -> dict[str, str]:
        """The array of each column."""
        columns = self._schema.columns
        if all(self._fits(column, column.name) for column in columns):
            return {column.name: column.name for column in columns}
        numeric = all(column.kind == "numeric" for column in columns)
        if len(columns) > 1 and not numeric:
            missing = [column.name for column in columns if column.name not in self._arrays]
            wrong = [column.name for column in columns if column.name not in missing]
            raise self._unfit(
                f"there is no array `{missing[0]}`"
                if missing
                else f"array `{wrong[0]}` has rows of another kind"
            )
        whole = columns[0] if len(columns) == 1 else Column("", "vector", (len(columns),))
        if whole.name in self._arrays and len(columns) == 1:
            given = self._arrays[whole.name]
            raise self._unfit(f"array `{whole.name}` holds {given.dtype} rows of shape {given.row}")
        usual = [*(x for x, _ in self._schema.arrays), *_FEATURES]
        fitting = [name for name in self._arrays if self._fits(whole, name)]
        taken = next((name for name in usual if name in fitting), fitting[0] if len(fitting) == 1 else None)
        if taken is None:
            raise self._unfit(
                "several arrays have rows that fit" if fitting else "no array has rows that fit"
            )
        if numeric and len(columns) > 1:
            order = ", ".join(column.name for column in columns[:12])
            more = "" if len(columns) <= 12 else ", ..."
            self._note(f"{self.name}: columns have no names here and are taken in order: {order}{more}")
        elif taken != _NO_NAME:
            self._note(f"{self.name}: the array `{taken}` is read as `{whole.name}`")
        return {column.name: taken for column in columns}

    def _fits(self, column: Column, name: str) -> bool:
        array = self._arrays.get(name)
        if array is None or array.dtype.kind not in _DTYPES[column.kind]:
            return False
        if column.kind == "image":
            return images_fit(array.row, column, self._schema.resize)
        return same_shape(array.row, column.shape)

    def _cells(self, column: Column, index: int, array: Array) -> Array:
        if column.kind in ("text", "category"):
            cells = _strings(array)
            return np.where(cells == None, "", cells) if column.kind == "text" else cells  # noqa: E711
        if column.kind == "image":
            images = self._images[column.name]
            pixels = images(array)
            for change in images.notes:
                self._note(f"{self.name}: {change}")
            return pixels
        if column.kind == "numeric":
            matrix = array.reshape(len(array), -1)
            return matrix[:, index if matrix.shape[1] > 1 else 0].astype(np.float64)
        return array.reshape(len(array), *column.shape)

    def _image_cells(self, column: Column) -> ImageCells:
        name = self._chosen[column.name]
        array = self._arrays[name]
        where = f"array `{name}`" if name != _NO_NAME else "the array"
        with reading(self.name, "arrays"):
            return ImageCells(array.dtype, array.read(self._size), column, self._schema.resize, where=where)

    def _label_array(self, features: str) -> str | None:
        known = [y for x, y in self._schema.arrays if x == features and y is not None]
        beside = [f"{features}_label", f"{features}_labels"] if features != _NO_NAME else []
        if features.startswith("x_") or features.endswith("_images"):
            beside += [f"y_{features[2:]}", f"{features.removesuffix('_images')}_labels"]
        own = [self._schema.label] if self._schema.label else []
        for name in (*known, *beside, *own, *_LABELS):
            array = self._arrays.get(name)
            if array is not None and name not in self._chosen.values() and self._per_row(array):
                return name
        return None

    def _id_array(self) -> str | None:
        name = self._schema.id
        array = self._arrays.get(name) if name else None
        return name if array is not None and self._per_row(array) else None

    def _per_row(self, array: StoredArray) -> bool:
        return array.shape == (self.total,) and array.dtype.kind in "fiubUS"

    def _codes(self, labels: Array) -> npt.NDArray[np.int64]:
        index, names = self._schema.class_index, self._schema.codes or self._own_names
        of = {str(code): name for code, name in enumerate(names)} if labels.dtype.kind in "fiub" else {}
        cells = label_strings(labels)
        codes = np.fromiter(
            (-1 if cell is None else index.get(of.get(cell, cell), -2) for cell in cells),
            np.int64,
            len(cells),
        )
        foreign = codes == -2
        if foreign.any():
            self._note(foreign_label_note(self.name, str(cells[foreign.argmax()])))
        return np.where(foreign, -1, codes)

    @cached_property
    def _own_names(self) -> tuple[str, ...]:
        """Names of the labels 0, 1, ... that the file has for a model of images."""
        array = self._arrays.get(_NAMES)
        if array is None or not self._images or len(array.shape) != 1 or array.dtype.kind != "U":
            return ()
        return tuple(str(name) for block in array.read(self._size) for name in block.tolist())

    def _unfit(self, what: str) -> DataError:
        listed = [f"{name or 'an array'}: {one.dtype} {one.shape}" for name, one in self._arrays.items()]
        wanted = [
            f"{column.name} ({column.kind}), rows of shape {column.shape}"
            for column in self._schema.columns[:12]
        ]
        return DataError(
            f"{self.name}: {what}",
            details=[*(f"there is   {one}" for one in listed), *(f"wanted     {one}" for one in wanted)],
            hint="rows must have the shape that they had in training"
            if list(self._arrays) == [_NO_NAME]
            else "name the arrays like the columns that the model reads, with rows of the same shape",
        )


def same_shape(given: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether rows can be taken for rows of another shape: equal but for axes of length 1, or laid flat.

    >>> same_shape((28, 28), (28, 28, 1)), same_shape((784,), (28, 28)), same_shape((3, 8, 8), (8, 8, 3))
    (True, True, False)
    """
    if math.prod(given) != math.prod(wanted):
        return False
    short = [[axis for axis in shape if axis != 1] for shape in (given, wanted)]
    return short[0] == short[1] or min(map(len, short)) <= 1


def _strings(array: Array) -> npt.NDArray[np.object_]:
    """Cells as stripped strings, None where one is empty."""
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        return np.array([str(cell).strip() or None for cell in array.tolist()], dtype=object)
    return np.array([str(int(cell)) for cell in array.tolist()], dtype=object)

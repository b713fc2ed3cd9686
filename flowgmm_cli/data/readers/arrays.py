"""Reader of named arrays: npz, npy and IDX files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.data.dates import parse_dates
from flowgmm_cli.data.images.arrays import ImageConverter, images_fit
from flowgmm_cli.data.images.format import ImageFormat
from flowgmm_cli.data.labels import UNLABELLED
from flowgmm_cli.data.readers.array_files import UNNAMED, StoredArray, read_class_names
from flowgmm_cli.data.readers.base import Chunk, ReadOptions, RowReader, row_numbers, unlabelled
from flowgmm_cli.data.readers.chunks import LabelEncoder
from flowgmm_cli.data.readers.schema import InputSchema
from flowgmm_cli.data.sources.arrays import array_strings, label_strings
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some

_FEATURE_NAMES = ("x", "data", "test", "x_test", "test_images")
_LABEL_NAMES = ("y", "label", "labels")
_DTYPES = {"numeric": "fiub", "vector": "fiub", "image": "fiub", "category": "USiub", "text": "US"}
_DTYPES["date"] = "MUS"


class ArrayReader(RowReader):
    """Reader of named arrays.

    A column is read from the array of its name. Without such an array, a model of a single vector column
    reads an array with a usual name, or the only array whose rows have the right shape. A model of numbers
    reads a matrix with as many columns.

    Args:
        arrays: name -> array; the array of an npy or IDX file is named ''.
        schema: the columns that the model reads.
        options: settings; `note` receives the arrays that are read under other names.
        name: the input as messages call it.

    Raises:
        DataError: no array fits.
    """

    def __init__(
        self, arrays: Mapping[str, StoredArray], schema: InputSchema, options: ReadOptions, *, name: str
    ) -> None:
        self.name = name
        self._arrays = arrays
        self._schema = schema
        self._size = options.chunk_size(schema.columns)
        self._note = options.note
        self._array_of = self._match_arrays()
        lengths = {self._arrays[array].shape[0] for array in self._array_of.values()}
        if len(lengths) > 1:
            raise self._mismatch(f"arrays differ in length: {', '.join(map(str, sorted(lengths)))}")
        self.total = lengths.pop()
        if self.total == 0:
            raise DataError(f"{name} has no rows")
        self._labels = self._find_column(self._label_names(next(iter(self._array_of.values()))))
        self._ids = self._find_column([schema.id] if schema.id else [])
        self._images = {
            column.name: self._image_converter(column) for column in schema.columns if column.kind == "image"
        }
        self._encode_labels = self._label_encoder()

    def _read_chunks(self) -> Iterator[Chunk]:
        names = dict.fromkeys([*self._array_of.values(), *filter(None, (self._labels, self._ids))])
        start = 0
        streams = [self._arrays[name].read(self._size) for name in names]
        for parts in zip(*streams, strict=True):
            arrays = dict(zip(names, parts, strict=True))
            count = len(parts[0])
            columns = {
                column.name: self._convert(column, index, arrays[self._array_of[column.name]])
                for index, column in enumerate(self._schema.columns)
            }
            ids = row_numbers(start, count)
            if self._ids:
                ids = arrays[self._ids].reshape(count).astype(str).astype(object)
            labels, unknown = unlabelled(count), dict[int, str]()
            if self._labels:
                labels, unknown = self._encode_labels(label_strings(arrays[self._labels]))
            yield Chunk(columns, labels, ids, start=start, unknown_labels=unknown)
            start += count

    def _match_arrays(self) -> dict[str, str]:
        """Return column name -> array name."""
        columns = self._schema.columns
        if all(self._fits(column, column.name) for column in columns):
            return {column.name: column.name for column in columns}
        if len(columns) > 1 and any(column.kind != "numeric" for column in columns):
            if missing := [column.name for column in columns if column.name not in self._arrays]:
                raise self._mismatch(f"there is no array `{missing[0]}`")
            wrong = next(column.name for column in columns if not self._fits(column, column.name))
            raise self._mismatch(f"array `{wrong}` has rows of another kind")
        target = columns[0] if len(columns) == 1 else Column("", "vector", (len(columns),))
        if target.name in self._arrays and len(columns) == 1:
            array = self._arrays[target.name]
            raise self._mismatch(f"array `{target.name}` holds {array.dtype} rows of shape {array.row_shape}")
        usual_names = [*(x for x, _ in self._schema.arrays), *_FEATURE_NAMES]
        fitting = [name for name in self._arrays if self._fits(target, name)]
        usual = [name for name in usual_names if name in fitting]
        if not usual and len(fitting) != 1:
            raise self._mismatch(f"{'several arrays have' if fitting else 'no array has'} rows that fit")
        chosen = (usual or fitting)[0]
        if len(columns) > 1:
            order = ", ".join(column.name for column in columns[:12])
            more = "" if len(columns) <= 12 else ", ..."
            self._note(f"{self.name}: columns have no names here and are taken in order: {order}{more}")
        elif chosen != UNNAMED:
            self._note(f"{self.name}: the array `{chosen}` is read as `{target.name}`")
        return {column.name: chosen for column in columns}

    def _fits(self, column: Column, name: str) -> bool:
        array = self._arrays.get(name)
        if array is None or array.dtype.kind not in _DTYPES[column.kind]:
            return False
        if column.kind == "image":
            return images_fit(array.row_shape, column, self._schema.resize)
        return shapes_match(array.row_shape, column.shape)

    def _convert(self, column: Column, index: int, array: Array) -> Array:
        if column.kind in ("text", "category"):
            cells = array_strings(array)
            return np.where(cells == None, "", cells) if column.kind == "text" else cells  # noqa: E711
        if column.kind == "image":
            images = self._images[column.name]
            pixels = images(array)
            for change in images.notes:
                self._note(f"{self.name}: {change}")
            return pixels
        if column.kind == "date":
            return parse_dates(pa.chunked_array([pa.array(array)]), column.format)[0]
        if column.kind == "numeric":
            matrix = array.reshape(len(array), -1)
            return matrix[:, index if matrix.shape[1] > 1 else 0].astype(np.float64)
        return array.reshape(len(array), *column.shape)

    def _image_converter(self, column: Column) -> ImageConverter:
        name = self._array_of[column.name]
        array = self._arrays[name]
        where = f"array `{name}`" if name != UNNAMED else "the array"
        image_format = ImageFormat.from_shape(column.shape, self._schema.resize)
        return ImageConverter(array.dtype, array.read(self._size), image_format, where=where)

    def _label_names(self, features: str) -> list[str]:
        """Return the names that the labels of an array of features may have, the most likely first."""
        names = [y for x, y in self._schema.arrays if x == features and y is not None]
        if features != UNNAMED:
            names += [f"{features}_label", f"{features}_labels"]
        if features.startswith("x_") or features.endswith("_images"):
            names += [f"y_{features[2:]}", f"{features.removesuffix('_images')}_labels"]
        return [*names, *([self._schema.label] if self._schema.label else []), *_LABEL_NAMES]

    def _find_column(self, names: Sequence[str]) -> str | None:
        """Return the first array of some names that has a single cell in each row and is no input."""
        for name in names:
            array = self._arrays.get(name)
            if array is None or array.dtype.kind not in "fiubUS" or name in self._array_of.values():
                continue
            if array.shape in ((self.total,), (self.total, 1)):
                return name
        return None

    def _label_encoder(self) -> LabelEncoder:
        codes = {**dict.fromkeys(self._schema.unlabelled, -1), **self._schema.class_index}
        if self._labels and self._arrays[self._labels].dtype.kind in "fiub":
            names = self._schema.codes or (read_class_names(self._arrays) if self._images else None) or ()
            codes |= {str(code): codes.get(name, -2) for code, name in enumerate(names)}
            codes.setdefault(UNLABELLED, -1)
        return LabelEncoder(codes)

    def _mismatch(self, problem: str) -> DataError:
        details = [
            f"there is   {name or 'an array'}: {of.dtype} {of.shape}" for name, of in self._arrays.items()
        ]
        columns = self._schema.columns
        if all(column.kind == "numeric" for column in columns):
            names = [column.name for column in columns]
            details.append(f"wanted     rows of {len(names):,} numbers: {join_some(names, len(names), 12)}")
        else:
            for column in columns[:12]:
                details.append(f"wanted     {column.name} ({column.kind}), rows of shape {column.shape}")
        hint = "name the arrays like the columns that the model reads, with rows of the same shape"
        if list(self._arrays) == [UNNAMED]:
            hint = "rows must have the shape that they had in training"
        return DataError(f"{self.name}: {problem}", details=details, hint=hint)


def shapes_match(actual: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Return True if two shapes are equal except for axes of length 1, or if one of them is flat.

    >>> shapes_match((28, 28), (28, 28, 1)), shapes_match((784,), (28, 28))
    (True, True)
    >>> shapes_match((3, 8, 8), (8, 8, 3))
    False
    """
    if math.prod(actual) != math.prod(expected):
        return False
    squeezed = [[axis for axis in shape if axis != 1] for shape in (actual, expected)]
    return squeezed[0] == squeezed[1] or min(map(len, squeezed)) <= 1

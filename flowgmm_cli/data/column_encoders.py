"""Column encoders: each maps an input column to a few columns of the feature matrix."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder, Rows
from flowgmm_cli.data.array_types import Array, Bytes, Floats, Ints
from flowgmm_cli.data.cache import encode
from flowgmm_cli.data.images.format import WHITE
from flowgmm_cli.data.sources.columns import ColumnStatistics, ValueIndex, canonical
from flowgmm_cli.data.specs import MissingPolicy
from flowgmm_cli.errors import DataError, did_you_mean
from flowgmm_cli.messages import shorten, suggest_column

State = tuple[dict[str, Any], dict[str, Array]]

MISSING_CATEGORY = "(missing)"

UNSEEN, EMPTY = -2, -1
"""Codes of cells with another category than those of training, and of empty cells if training had none."""

_MARKED_SHARE = 0.1  # of missing cells, from which on they are marked


@dataclass(frozen=True)
class ColumnEncoder(ABC):
    """A fitted encoder of an input column.

    Attributes:
        column: the input column.
        inexact: reason that the density of the features is not that of the column, with `{}` for its name;
            '' if it is.
        invalid_reason: reason that a row with non-finite features cannot be used, with `{}`.
    """

    column: Column
    inexact: ClassVar[str] = ""
    invalid_reason: ClassVar[str] = ""

    @property
    def names(self) -> list[str]:
        """Names of the features; by default the column's name with an index for each entry."""
        return [f"{self.column.name}[{entry}]" for entry in range(int(np.prod(self.column.shape)))]

    @abstractmethod
    def transform(self, cells: Array, context: DataContext) -> Floats | Bytes:
        """Return float64 `(N, len(names))`, of images uint8; features of invalid rows are not finite."""

    def invert(self, features: Floats) -> Array | None:
        """Return the cells `(N, *shape)` of features `(N, len(names))`; None if there is no inverse."""
        return None

    def state(self) -> State:
        """Return (JSON values, arrays) to restore it from."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        del values["column"]
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        return {name: value for name, value in values.items() if name not in arrays}, arrays


@dataclass(frozen=True)
class NumericColumn(ColumnEncoder):
    """A numeric or vector column; NaN and infinite cells are replaced by `fill`.

    If many cells of a numeric column are missing, a second feature marks them with 1.
    """

    fill: Floats | None  # `(d,)`; None if such cells are an error
    has_missing: bool = False  # True if training cells are filled
    whole: bool = False  # True if all training cells are whole numbers
    range: tuple[float, float] | None = None  # smallest and largest training cell; None if unknown
    marked: bool = False  # True if a feature marks missing cells
    invalid_reason = "column `{}` is missing or infinite, and data.missing is `error`, not `median`"

    @classmethod
    def fit(cls, column: Column, cells: Array, missing: MissingPolicy, statistics: ColumnStatistics) -> Self:
        """Compute fill values from training cells; `statistics` are those of all training rows."""
        whole = statistics.finite > 0 and statistics.integral
        bounds = (statistics.minimum, statistics.maximum) if statistics.finite else None
        if missing == "error":
            return cls(column, None, whole=whole, range=bounds)
        average = np.median if missing == "median" else np.mean
        matrix = _flatten(cells)
        fill = [
            float(average(values[finite])) if finite.any() else 0.0
            for values, finite in zip(matrix.T, np.isfinite(matrix).T, strict=True)
        ]
        marked = not column.shape and statistics.finite <= (1 - _MARKED_SHARE) * statistics.cells
        return cls(column, np.array(fill), not statistics.complete, whole, bounds, marked)

    @property
    def names(self) -> list[str]:
        """The column's name, with an index for each entry of a vector; `name=(missing)` for the mark."""
        mark = [f"{self.column.name}={MISSING_CATEGORY}"] if self.marked else []
        return [*(super().names if self.column.shape else [self.column.name]), *mark]

    @property
    def inexact(self) -> str:  # type: ignore[override]
        """Reason: cells are filled in."""
        return "missing cells of {} are filled in" if self.has_missing else ""

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return the numbers, missing cells filled in unless the policy is `error`."""
        matrix = _flatten(cells)
        if self.fill is None:
            return matrix
        missing = ~np.isfinite(matrix)
        filled = np.where(missing, self.fill, matrix) if missing.any() else matrix
        return np.hstack([filled, missing]) if self.marked else filled

    def invert(self, features: Floats) -> Array | None:
        """Return the numbers in the column's shape, rounded if training cells are whole, NaN if marked."""
        values = features[:, :-1] if self.marked else features
        values = np.rint(values) + 0.0 if self.whole else values  # + 0.0: no -0
        if self.marked:
            values = np.where(features[:, -1:] > 0.5, np.nan, values)
        return values.reshape(len(features), *self.column.shape)


@dataclass(frozen=True)
class PixelColumn(ColumnEncoder):
    """An image column: its uint8 pixels, channels first."""

    invalid_reason = "the image cannot be read"
    whole: ClassVar[bool] = True
    range: ClassVar[tuple[float, float]] = (0.0, float(WHITE))

    def transform(self, cells: Array, context: DataContext) -> Bytes:
        """Return the pixels, uint8 `(N, channels * height * width)`."""
        pixels: Bytes = np.asarray(cells)
        if pixels.ndim == 4:
            pixels = np.moveaxis(pixels, 3, 1)
        return np.ascontiguousarray(pixels, dtype=np.uint8).reshape(len(pixels), len(self.names))

    def invert(self, features: Floats) -> Array:
        """Return images `(N, *shape)` of the nearest whole numbers, uint8."""
        pixels = np.rint(features).clip(0, WHITE).astype(np.uint8)
        if len(self.column.shape) == 2:
            return pixels.reshape(len(features), *self.column.shape)
        height, width, channels = self.column.shape
        return np.moveaxis(pixels.reshape(len(features), channels, height, width), 1, 3)


@dataclass(frozen=True)
class CategoryColumn(ColumnEncoder):
    """A category column, one-hot encoded with the categories of the training rows."""

    categories: tuple[str, ...]
    inexact = "{} are categories; the density is that of their 0/1 features"

    @classmethod
    def fit(cls, column: Column, statistics: ColumnStatistics) -> CategoryColumn:
        """Take the categories; an empty cell is a category of its own."""
        present = {MISSING_CATEGORY if cell is None else canonical(cell) for cell in statistics.categories}
        return cls(column, tuple(sorted(present)))

    @property
    def names(self) -> list[str]:
        """`column=category`."""
        return [f"{self.column.name}={category}" for category in self.categories]

    @cached_property
    def _index(self) -> ValueIndex:
        return ValueIndex(self.categories)

    def codes(self, cells: Array) -> Ints:
        """Return the index of each cell's category, `EMPTY` or `UNSEEN` for what training never saw."""
        known = MISSING_CATEGORY in self.categories
        missing = self.categories.index(MISSING_CATEGORY) if known else EMPTY
        return self._index.codes(cells, missing=missing, unknown=UNSEEN)

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return 0/1 features, all 0 for an unknown category."""
        codes = self.codes(cells)
        matrix = np.zeros((len(cells), len(self.categories)))
        known = np.flatnonzero(codes >= 0)
        matrix[known, codes[known]] = 1.0
        return matrix

    def invert(self, features: Floats) -> Array | None:
        """Return the category with the largest feature, None for the empty cell."""
        cells = np.array([None if c == MISSING_CATEGORY else c for c in self.categories], dtype=object)
        inverted: Array = cells[features.argmax(axis=1)]
        return inverted


@dataclass(frozen=True)
class HashedColumn(ColumnEncoder):
    """A column of many categories: a hash of the cell sets one of a few features to 1 or -1.

    This is the encoding of scikit-learn's `FeatureHasher` with another hash; an empty cell has zeros.
    """

    size: int = 16
    inexact = "{} are categories; the density is that of their hashed features"

    @property
    def names(self) -> list[str]:
        """`column#0`, ..."""
        return [f"{self.column.name}#{entry}" for entry in range(self.size)]

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return features of 0, 1 and -1."""
        hashes = {cell: _hash(canonical(cell)) for cell in set(cells.tolist()) - {None}}
        filled = np.flatnonzero(cells != None)  # noqa: E711 - elementwise
        numbers = np.array([hashes[cell] for cell in cells[filled]], dtype=np.int64)
        matrix = np.zeros((len(cells), self.size))
        matrix[filled, numbers // 2 % self.size] = 1 - 2 * (numbers % 2)
        return matrix


@dataclass(frozen=True)
class VectorColumn(ColumnEncoder):
    """A column of texts or images, as vectors of an encoder; `inference.samples` finds near ones."""

    encoder: Encoder
    invalid_reason = "the encoder of `{}` gave no finite vector"

    @property
    def inexact(self) -> str:  # type: ignore[override]
        """Reason: texts and images have vectors."""
        return f"{{}} are {self.column.kind}s; the density is that of their vectors"

    @property
    def names(self) -> list[str]:
        """The column's name with an index."""
        return [f"{self.column.name}[{entry}]" for entry in range(self.encoder.dim)]

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return the vectors of the texts or images."""
        items = as_strings(cells) if self.column.kind == "text" else cells
        return encode(self.encoder, items, context).astype(np.float64)

    def state(self) -> State:
        """Return the encoder's state."""
        return self.encoder.state()


def cells_of(column: Column, rows: Rows) -> Array:
    """Return the cells of an input column. Raises `DataError` if it is missing or has another shape."""
    name, shape = column.name, column.shape
    if name not in rows.columns:
        raise DataError(f"the rows have no column `{name}`{did_you_mean(name, rows.columns)}")
    cells = rows.columns[name]
    if cells.shape[1:] != shape:
        raise DataError(f"column `{name}` has entries of shape {cells.shape[1:]}, training had {shape}")
    return cells


def _hash(cell: str) -> int:
    return int.from_bytes(blake2b(cell.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "little")


def _flatten(cells: Array) -> Floats:
    return cells.reshape(len(cells), int(np.prod(cells.shape[1:]))).astype(np.float64)


def as_strings(cells: Array) -> list[str]:
    """Return the texts of cells, '' where a cell is None."""
    return ["" if cell is None else str(cell) for cell in cells]


class UnseenCells(NamedTuple):
    """Cells of a column that training never saw: their number, that of all rows, and a sentence."""

    column: str
    cells: int
    rows: int
    text: str


class UnseenCategories:
    """Counts of the cells that training never saw, over the chunks of an input.

    Args:
        encoders: the column encoders, of which some have the categories of training.
    """

    def __init__(self, encoders: Sequence[ColumnEncoder]) -> None:
        self._encoders = [encoder for encoder in encoders if isinstance(encoder, CategoryColumn)]
        self._total = 0
        self._unseen, self._empty = Counter[str](), Counter[str]()
        self._examples: dict[str, str] = {}

    def add(self, rows: Rows) -> None:
        """Count the cells of some rows."""
        self._total += len(rows)
        for encoder in self._encoders:
            name, cells = encoder.column.name, cells_of(encoder.column, rows)
            codes = encoder.codes(cells)
            self._empty[name] += int((codes == EMPTY).sum())
            if count := int((codes == UNSEEN).sum()):
                self._unseen[name] += count
                self._examples.setdefault(name, str(cells[codes.argmin()]))

    def describe(self) -> Iterator[UnseenCells]:
        """Yield the columns with such cells."""
        for encoder in self._encoders:
            name = encoder.column.name
            if (example := self._examples.get(name)) is not None:
                near = suggest_column(example, encoder.categories).removeprefix("; ")
                text = (
                    f"`{name}`: {self._unseen[name]:,} of {self._total:,} cells hold a category that "
                    f"training never saw, such as `{shorten(example)}`" + (f" ({near})" if near else "")
                )
                yield UnseenCells(name, self._unseen[name], self._total, text)
            if empty := self._empty[name]:
                text = f"`{name}`: {empty:,} of {self._total:,} cells are empty; in training none was"
                yield UnseenCells(name, empty, self._total, text)

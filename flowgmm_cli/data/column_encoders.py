"""Column encoders: each maps an input column to a few columns of the feature matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder
from flowgmm_cli.data.array_types import Array, Bools, Bytes, Floats
from flowgmm_cli.data.cache import encode
from flowgmm_cli.data.images.format import WHITE
from flowgmm_cli.data.large.statistics import ColumnStatistics
from flowgmm_cli.data.specs import MissingPolicy
from flowgmm_cli.errors import DataError

State = tuple[dict[str, Any], dict[str, Array]]

MISSING_CATEGORY = "(missing)"


@dataclass(frozen=True)
class ColumnEncoder(ABC):
    """A fitted encoder of an input column."""

    column: Column  # the input column

    @property
    def names(self) -> list[str]:
        """Names of the features: the column's name with an index for each entry."""
        return [f"{self.column.name}[{entry}]" for entry in range(int(np.prod(self.column.shape)))]

    @property
    def inexact(self) -> str:
        """Reason that the density of the features is not that of the column; '' if it is."""
        return ""

    @property
    def invalid_reason(self) -> str:
        """Reason that a row with non-finite features cannot be used."""
        return ""

    @abstractmethod
    def transform(self, cells: Array, context: DataContext) -> Floats | Bytes:
        """Return float64 `(N, len(names))`, of images uint8; features of invalid rows are not finite."""

    def invalid_error(self, invalid: Bools, ids: Array) -> DataError:
        """Return the error for features `(N, len(names))` that are not finite where `invalid` is True."""
        first = ids[np.flatnonzero(invalid.any(axis=1))[0]]
        return DataError(f"{self.invalid_reason}, the first in row {first}")

    @abstractmethod
    def invert(self, features: Floats) -> Array | None:
        """Return the cells `(N, *shape)` of features `(N, len(names))`; None if there is no inverse."""

    def state(self) -> State:
        """Return (JSON values, arrays) to restore it from."""
        return {}, {}


@dataclass(frozen=True)
class NumericColumn(ColumnEncoder):
    """A numeric or vector column; NaN and infinite cells are replaced by `fill`."""

    fill: Floats | None  # `(d,)`; None if such cells are an error
    has_missing: bool = False  # True if training cells are filled
    whole: bool = False  # True if all training cells are whole numbers
    range: tuple[float, float] | None = None  # smallest and largest training cell; None if unknown

    @classmethod
    def fit(
        cls, column: Column, cells: Array, missing: MissingPolicy, statistics: ColumnStatistics
    ) -> NumericColumn:
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
        return cls(column, np.array(fill), not statistics.complete, whole, bounds)

    @property
    def names(self) -> list[str]:
        """The column's name, with an index for each entry of a vector."""
        return [self.column.name] if self.column.kind == "numeric" else super().names

    @property
    def inexact(self) -> str:
        """Reason: cells are filled in."""
        return f"missing cells of `{self.column.name}` are filled in" if self.has_missing else ""

    @property
    def invalid_reason(self) -> str:
        """A missing cell is an error."""
        return f"column `{self.column.name}` is missing or infinite, and data.missing is `error`"

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return the numbers, missing cells filled in unless the policy is `error`."""
        matrix = _flatten(cells)
        if self.fill is None:
            return matrix
        missing = ~np.isfinite(matrix)
        return np.where(missing, self.fill, matrix) if missing.any() else matrix

    def invalid_error(self, invalid: Bools, ids: Array) -> DataError:
        """Return the error for missing cells."""
        first = ids[np.flatnonzero(invalid.any(axis=1))[0]]
        return DataError(
            f"column `{self.column.name}` has {invalid.sum():,} missing or infinite cells, "
            f"the first in row {first}",
            hint="set data.missing=median to fill them in",
        )

    def invert(self, features: Floats) -> Array:
        """Return the numbers in the column's shape, rounded if all training cells are whole numbers."""
        values = np.rint(features) + 0.0 if self.whole else features  # + 0.0: no -0
        return values.reshape(len(features), *self.column.shape)

    def state(self) -> State:
        """Return the fill values and statistics of the training cells."""
        values = {"inexact": self.inexact, "whole": self.whole, "range": self.range and list(self.range)}
        return values, {} if self.fill is None else {"fill": self.fill}


@dataclass(frozen=True)
class PixelColumn(ColumnEncoder):
    """An image column: its uint8 pixels, channels first."""

    invalid_reason = "the image cannot be read"
    whole = True
    range = (0.0, float(WHITE))

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

    @classmethod
    def fit(cls, column: Column, statistics: ColumnStatistics) -> CategoryColumn:
        """Take the categories; an empty cell is a category of its own."""
        present = {MISSING_CATEGORY if cell is None else cell for cell in statistics.categories}
        return cls(column, tuple(sorted(present)))

    @property
    def names(self) -> list[str]:
        """`column=category`."""
        return [f"{self.column.name}={category}" for category in self.categories]

    @property
    def inexact(self) -> str:
        """Reason: categories have no density."""
        return f"`{self.column.name}` holds categories; the density is that of their 0/1 features"

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return 0/1 features, all 0 for an unknown category."""
        codes: dict[str | None, int] = {category: index for index, category in enumerate(self.categories)}
        codes[None] = codes.get(MISSING_CATEGORY, -1)
        cell_codes = np.fromiter(map(codes.get, cells, repeat(-1)), np.int64, len(cells))
        matrix = np.zeros((len(cells), len(self.categories)))
        known = np.flatnonzero(cell_codes >= 0)
        matrix[known, cell_codes[known]] = 1.0
        if len(known) < len(cells):
            count = "some" if context.streaming else f"{len(cells) - len(known):,}"
            context.note(f"{count} cells of `{self.column.name}` hold a category that training never saw")
        return matrix

    def invert(self, features: Floats) -> Array:
        """Return the category with the largest feature, None for the empty cell."""
        cells = np.array([None if c == MISSING_CATEGORY else c for c in self.categories], dtype=object)
        inverted: Array = cells[features.argmax(axis=1)]
        return inverted

    def state(self) -> State:
        """Return the categories."""
        return {"categories": list(self.categories)}, {}


@dataclass(frozen=True)
class TextColumn(ColumnEncoder):
    """A text column, as vectors of a text encoder."""

    encoder: Encoder

    @classmethod
    def fit(cls, column: Column, cells: Array, encoder: Encoder) -> TextColumn:
        """Fit the encoder to the training texts."""
        encoder.fit(_as_strings(cells))
        return cls(column, encoder)

    @property
    def names(self) -> list[str]:
        """The column's name with an index."""
        return [f"{self.column.name}[{entry}]" for entry in range(self.encoder.dim)]

    @property
    def inexact(self) -> str:
        """Reason: texts have no density."""
        return f"`{self.column.name}` holds texts; the density is that of their vectors"

    @property
    def invalid_reason(self) -> str:
        """The encoder failed."""
        return f"the encoder of `{self.column.name}` gave no finite vector"

    def transform(self, cells: Array, context: DataContext) -> Floats:
        """Return the vectors of the texts."""
        return encode(self.encoder, _as_strings(cells), context).astype(np.float64)

    def invalid_error(self, invalid: Bools, ids: Array) -> DataError:
        """Return the error for vectors that are not finite."""
        rows = np.flatnonzero(invalid.any(axis=1))
        return DataError(f"{self.invalid_reason} for {len(rows):,} texts, first row {ids[rows[0]]}")

    def invert(self, features: Floats) -> None:
        """Return None: vectors have no inverse; `flowgmm_cli.inference.nearest_texts` finds near texts."""
        return

    def state(self) -> State:
        """Return the encoder's state."""
        return self.encoder.state()


def restore(
    column: Column, values: Mapping[str, Any], arrays: Mapping[str, Array], encoder: Encoder | None
) -> ColumnEncoder:
    """Restore a column encoder from its `state`; `encoder` is a newly built one, for a text column."""
    if column.kind == "image":
        return PixelColumn(column)
    if column.kind == "category":
        return CategoryColumn(column, tuple(values["categories"]))
    if column.kind == "text" and encoder is not None:
        encoder.load_state(values, arrays)
        return TextColumn(column, encoder)
    bounds = values["range"]
    return NumericColumn(
        column,
        arrays.get("fill"),
        bool(values["inexact"]),
        bool(values["whole"]),
        (float(bounds[0]), float(bounds[1])) if bounds else None,
    )


def _flatten(cells: Array) -> Floats:
    return cells.reshape(len(cells), int(np.prod(cells.shape[1:]))).astype(np.float64)


def _as_strings(cells: Array) -> Sequence[str]:
    return ["" if cell is None else str(cell) for cell in cells]

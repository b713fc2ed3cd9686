"""Blocks of the feature matrix: each turns one input column into a few columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder
from flowgmm_cli.data.cache import encode
from flowgmm_cli.data.images.format import WHITE
from flowgmm_cli.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.specs import MissingPolicy

    Cells = npt.NDArray[Any]
    Matrix = npt.NDArray[np.float64]
    Bytes = npt.NDArray[np.uint8]
    State = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]

MISSING_CATEGORY = "(missing)"


class Block(Protocol):
    """A fitted block."""

    @property
    def column(self) -> Column:
        """The input column."""
        ...

    @property
    def names(self) -> list[str]:
        """Names of the features it makes."""
        ...

    @property
    def inexact(self) -> str:
        """Why the density of its features is not that of the column; '' if it is."""
        ...

    @property
    def refusal(self) -> str:
        """Why a row cannot be used whose features are not finite."""
        ...

    def features(self, cells: Cells, context: DataContext) -> Matrix | Bytes:
        """Return float64 `(N, len(names))`, of images uint8.

        A row that cannot be used has features that are not finite.
        """
        ...

    def transform(self, cells: Cells, ids: Cells, context: DataContext) -> Matrix | Bytes:
        """Return float64 `(N, len(names))`, of images uint8, all finite."""
        ...

    def invert(self, features: Matrix) -> Cells | None:
        """Return the cells `(N, *shape)` that stand for features `(N, len(names))`; None if no cell can."""
        ...

    def state(self) -> State:
        """Return (JSON values, arrays) to restore it from."""
        ...


@dataclass(frozen=True)
class Numbers:
    """A numeric or vector column; a NaN or infinite cell takes the value that `fill` has for it.

    Attributes:
        fill: `(d,)`, None where such cells are an error.
        whole: whether the training rows hold nothing but whole numbers.
        range: the smallest and the largest value of the training rows; None where that is not known.
    """

    column: Column
    fill: Matrix | None
    inexact: str = ""
    whole: bool = False
    range: tuple[float, float] | None = None

    @classmethod
    def fit(cls, column: Column, cells: Cells, missing: MissingPolicy) -> Numbers:
        """Learn what replaces missing cells from the training cells."""
        matrix = _flat(cells)
        known = np.isfinite(matrix)
        values = matrix[known]
        whole = len(values) > 0 and bool((values == np.rint(values)).all())
        bounds = (float(values.min()), float(values.max())) if len(values) else None
        if missing == "error":
            return cls(column, None, whole=whole, range=bounds)
        inexact = "" if known.all() else f"missing cells of `{column.name}` are filled in"
        average = np.median if missing == "median" else np.mean
        fill = [
            float(average(values[here])) if here.any() else 0.0
            for values, here in zip(matrix.T, known.T, strict=True)
        ]
        return cls(column, np.array(fill), inexact, whole, bounds)

    @property
    def names(self) -> list[str]:
        """The column's name, with an index for each entry of a vector."""
        size = int(np.prod(self.column.shape))
        name = self.column.name
        return [name] if self.column.kind == "numeric" else [f"{name}[{entry}]" for entry in range(size)]

    @property
    def refusal(self) -> str:
        """A missing cell that nothing fills in."""
        return f"column `{self.column.name}` is missing or infinite, and data.missing is `error`"

    def features(self, cells: Cells, context: DataContext) -> Matrix:
        """Fill in missing cells, if the policy is not `error`."""
        matrix = _flat(cells)
        if self.fill is None:
            return matrix
        bad = ~np.isfinite(matrix)
        return np.where(bad, self.fill, matrix) if bad.any() else matrix

    def transform(self, cells: Cells, ids: Cells, context: DataContext) -> Matrix:
        """Fill in missing cells.

        Raises:
            DataError: a cell is missing and the policy is `error`.
        """
        matrix = self.features(cells, context)
        bad = ~np.isfinite(matrix)
        if bad.any():
            rows = np.flatnonzero(bad.any(axis=1))
            raise DataError(
                f"column `{self.column.name}` has {bad.sum():,} missing or infinite cells, "
                f"the first in row {ids[rows[0]]}",
                hint="set data.missing=median to fill them in",
            )
        return matrix

    def invert(self, features: Matrix) -> Cells:
        """Return the numbers in the column's shape, rounded where training saw whole ones only.

        This undoes `transform` but for cells that were filled in.
        """
        values = np.rint(features) + 0.0 if self.whole else features  # + 0.0: no -0
        return values.reshape(len(features), *self.column.shape)

    def state(self) -> State:
        """Return the fill values, and what is known of the training cells."""
        values = {"inexact": self.inexact, "whole": self.whole, "range": self.range and list(self.range)}
        return values, {} if self.fill is None else {"fill": self.fill}


@dataclass(frozen=True)
class Pixels:
    """An image column: its pixels as they are, uint8, channels first."""

    column: Column

    inexact = ""
    refusal = "the image cannot be read"

    @property
    def names(self) -> list[str]:
        """The column's name, with an index for each number of an image."""
        return [f"{self.column.name}[{entry}]" for entry in range(int(np.prod(self.column.shape)))]

    @property
    def whole(self) -> bool:
        """Pixels are whole numbers."""
        return True

    @property
    def range(self) -> tuple[float, float]:
        """From black to white."""
        return (0.0, float(WHITE))

    def transform(self, cells: Cells, ids: Cells, context: DataContext) -> Bytes:
        """Return the pixels, uint8 `(N, channels * height * width)`."""
        return self.features(cells, context)

    def features(self, cells: Cells, context: DataContext) -> Bytes:
        """Return the pixels, uint8 `(N, channels * height * width)`."""
        pixels: Bytes = np.asarray(cells)
        if pixels.ndim == 4:
            pixels = np.moveaxis(pixels, 3, 1)
        return np.ascontiguousarray(pixels, dtype=np.uint8).reshape(len(pixels), len(self.names))

    def invert(self, features: Matrix) -> Cells:
        """Return images `(N, *shape)` of the nearest whole values, uint8."""
        pixels = np.rint(features).clip(0, WHITE).astype(np.uint8)
        if len(self.column.shape) == 2:
            return pixels.reshape(len(features), *self.column.shape)
        height, width, channels = self.column.shape
        return np.moveaxis(pixels.reshape(len(features), channels, height, width), 1, 3)

    def state(self) -> State:
        """Nothing: all is in the column."""
        return {}, {}


@dataclass(frozen=True)
class Categories:
    """A category column, one 0/1 feature for each category that the training rows show."""

    column: Column
    categories: tuple[str, ...]

    @classmethod
    def fit(cls, column: Column, cells: Cells) -> Categories:
        """Collect the categories; empty cells are one of their own."""
        present = {MISSING_CATEGORY if cell is None else str(cell) for cell in cells}
        return cls(column, tuple(sorted(present)))

    @property
    def names(self) -> list[str]:
        """`column=category`."""
        return [f"{self.column.name}={category}" for category in self.categories]

    @property
    def inexact(self) -> str:
        """Categories have no density."""
        return f"`{self.column.name}` holds categories; the density is that of their 0/1 features"

    @property
    def refusal(self) -> str:
        """No row is refused."""
        return ""

    def transform(self, cells: Cells, ids: Cells, context: DataContext) -> Matrix:
        """Return 0/1 features, all 0 for a category that training never saw."""
        return self.features(cells, context)

    def features(self, cells: Cells, context: DataContext) -> Matrix:
        """Return 0/1 features, all 0 for a category that training never saw."""
        place: dict[str | None, int] = {category: index for index, category in enumerate(self.categories)}
        place[None] = place.get(MISSING_CATEGORY, -1)
        codes = np.fromiter(map(place.get, cells, repeat(-1)), np.int64, len(cells))
        matrix = np.zeros((len(cells), len(self.categories)))
        known = np.flatnonzero(codes >= 0)
        matrix[known, codes[known]] = 1.0
        if len(known) < len(cells):
            count = "some" if context.streaming else f"{len(cells) - len(known):,}"
            context.note(f"{count} cells of `{self.column.name}` hold a category that training never saw")
        return matrix

    def invert(self, features: Matrix) -> Cells:
        """Return the category with the largest feature, None for the empty cell.

        This undoes `transform` for all categories that training saw.
        """
        cells = np.array([None if c == MISSING_CATEGORY else c for c in self.categories], dtype=object)
        found: Cells = cells[features.argmax(axis=1)]
        return found

    def state(self) -> State:
        """Return the categories."""
        return {"categories": list(self.categories)}, {}


@dataclass(frozen=True)
class Text:
    """A text column, as the vectors of an encoder."""

    column: Column
    encoder: Encoder

    @classmethod
    def fit(cls, column: Column, cells: Cells, encoder: Encoder) -> Text:
        """Fit the encoder to the training texts."""
        encoder.fit(_texts(cells))
        return cls(column, encoder)

    @property
    def names(self) -> list[str]:
        """The column's name with an index."""
        return [f"{self.column.name}[{entry}]" for entry in range(self.encoder.dim)]

    @property
    def inexact(self) -> str:
        """Texts have no density."""
        return f"`{self.column.name}` holds texts; the density is that of their vectors"

    @property
    def refusal(self) -> str:
        """The encoder failed."""
        return f"the encoder gave no finite vector for `{self.column.name}`"

    def features(self, cells: Cells, context: DataContext) -> Matrix:
        """Return the texts' vectors."""
        return encode(self.encoder, _texts(cells), context).astype(np.float64)

    def transform(self, cells: Cells, ids: Cells, context: DataContext) -> Matrix:
        """Return the texts' vectors.

        Raises:
            DataError: the encoder made a vector that is not finite.
        """
        vectors = self.features(cells, context)
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(bad):
            raise DataError(
                f"the encoder gave no finite vector for {len(bad):,} texts, first row {ids[bad[0]]}"
            )
        return vectors

    def invert(self, features: Matrix) -> None:
        """No text has a given vector; see `flowgmm_cli.inference.nearest_texts` for what comes near."""
        return

    def state(self) -> State:
        """Return the encoder's state."""
        return self.encoder.state()


def restore(
    column: Column, values: Mapping[str, Any], arrays: Mapping[str, Cells], encoder: Encoder | None
) -> Block:
    """Make a block from what `state` returned; `encoder` is a newly built one, for a text column."""
    if column.kind == "image":
        return Pixels(column)
    if column.kind == "category":
        return Categories(column, tuple(values["categories"]))
    if column.kind == "text" and encoder is not None:
        encoder.load_state(values, arrays)
        return Text(column, encoder)
    bounds = values.get("range")
    return Numbers(
        column,
        arrays.get("fill"),
        values["inexact"],
        bool(values.get("whole", False)),
        (float(bounds[0]), float(bounds[1])) if bounds else None,
    )


def _flat(cells: Cells) -> Matrix:
    return cells.reshape(len(cells), int(np.prod(cells.shape[1:]))).astype(np.float64)


def _texts(cells: Cells) -> Sequence[str]:
    return ["" if cell is None else str(cell) for cell in cells]

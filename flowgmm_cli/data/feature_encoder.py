"""Encode input columns as a matrix of numbers, with column encoders fitted on training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder, Rows
from flowgmm_cli.data.array_types import Array, Bools, Bytes, Floats
from flowgmm_cli.data.column_encoders import (
    CategoryColumn,
    ColumnEncoder,
    NumericColumn,
    PixelColumn,
    TextColumn,
    restore,
)
from flowgmm_cli.data.large.statistics import ColumnStatistics
from flowgmm_cli.data.specs import MissingPolicy
from flowgmm_cli.errors import DataError, did_you_mean
from flowgmm_cli.files import select_prefix

Features = Floats | Bytes

EncoderFactory = Callable[[], Encoder]
"""Builds a text encoder: each text column has its own, since some encoders are fitted."""


class FeatureEncoder:
    """The column encoders of the input columns in use; their features side by side are the feature matrix."""

    def __init__(self, encoders: Sequence[ColumnEncoder], notes: Sequence[str] = ()) -> None:
        self._encoders = tuple(encoders)
        self.notes = tuple(notes)
        self.feature_names = [name for encoder in self._encoders for name in encoder.names]

    @classmethod
    def fit(
        cls,
        rows: Rows,
        columns: Sequence[Column],
        *,
        missing: MissingPolicy,
        encoder: EncoderFactory | None,
        statistics: Mapping[str, ColumnStatistics] | None = None,
    ) -> FeatureEncoder:
        """Fit to training rows; a column without information is left out.

        Args:
            rows: the training rows, or a sample of them.
            columns: the input columns.
            missing: treatment of missing cells.
            encoder: builds encoders for text columns.
            statistics: statistics of the columns of all training rows, if `rows` are a sample.
        """
        encoders: list[ColumnEncoder] = []
        notes = []
        for column in columns:
            cells = rows.columns[column.name]
            known = (statistics or {}).get(column.name) or ColumnStatistics.from_cells(column, cells)
            if reason := _drop_reason(column, known, missing):
                notes.append(f"column `{column.name}` is left out: {reason} in the training rows")
                continue
            fitted = _fit_column(column, cells, missing, known, encoder)
            encoders.append(fitted)
            if isinstance(fitted, NumericColumn) and fitted.inexact:
                notes.append(f"{fitted.inexact} with the {missing} of the training rows")
        if not encoders:
            raise DataError(
                "no input column is left", details=notes, hint="check data.features and data.drop"
            )
        return cls(encoders, notes)

    @property
    def inexact(self) -> tuple[str, ...]:
        """Reasons that the density of the matrix is not that of the input columns; empty if it is."""
        return tuple(encoder.inexact for encoder in self._encoders if encoder.inexact)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns in use."""
        return tuple(encoder.column for encoder in self._encoders)

    @property
    def layout(self) -> list[tuple[Column, slice]]:
        """The input columns in use, each with its columns of the matrix."""
        ends = np.cumsum([0, *(len(encoder.names) for encoder in self._encoders)]).tolist()
        return [
            (encoder.column, slice(start, stop))
            for encoder, start, stop in zip(self._encoders, ends, ends[1:], strict=False)
        ]

    @property
    def whole(self) -> frozenset[str]:
        """Names of the columns whose training cells are whole numbers."""
        return frozenset(
            encoder.column.name
            for encoder in self._encoders
            if isinstance(encoder, NumericColumn | PixelColumn) and encoder.whole
        )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest training value of each column of numbers, if known."""
        return {
            encoder.column.name: encoder.range
            for encoder in self._encoders
            if isinstance(encoder, NumericColumn | PixelColumn) and encoder.range is not None
        }

    def transform(self, rows: Rows, context: DataContext) -> Features:
        """Return float64 `(N, D)`, all finite; uint8 if the rows are images and nothing else."""
        return _concatenate([_transform(encoder, rows, context) for encoder in self._encoders])

    def transform_column(self, name: str, rows: Rows, context: DataContext) -> Features:
        """Return the features of an input column in use, `(N, d)`; errors as for `transform`."""
        encoder = next(encoder for encoder in self._encoders if encoder.column.name == name)
        return _transform(encoder, rows, context)

    def transform_valid(self, rows: Rows, context: DataContext) -> tuple[Features, dict[int, str]]:
        """Return the matrix, and positions and reasons of the rows that `transform` would refuse.

        The features of these rows are not finite.
        """
        parts = []
        problems: dict[int, str] = {}
        for encoder in self._encoders:
            part = encoder.transform(_cells_of(encoder.column, rows), context)
            for position in np.flatnonzero(_invalid(part).any(axis=1)).tolist():
                problems.setdefault(position, encoder.invalid_reason)
            parts.append(part)
        return _concatenate(parts), problems

    def invert(self, matrix: Floats) -> dict[str, Array | None]:
        """Return the input columns in use of a matrix `(N, D)`, in the units and shapes of the input.

        Numbers are rounded if training saw only whole numbers; a text column is None: it has no inverse.
        """
        return {
            encoder.column.name: encoder.invert(matrix[:, columns])
            for encoder, (_, columns) in zip(self._encoders, self.layout, strict=True)
        }

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return (JSON values, arrays)."""
        values: dict[str, Any] = {"blocks": [], "notes": list(self.notes)}
        arrays: dict[str, Array] = {}
        for index, encoder in enumerate(self._encoders):
            column = encoder.column
            encoder_values, encoder_arrays = encoder.state()
            described = {"name": column.name, "kind": column.kind, "shape": list(column.shape)}
            values["blocks"].append({"column": described, "values": encoder_values})
            arrays |= {f"{index}.{name}": array for name, array in encoder_arrays.items()}
        return values, arrays

    @classmethod
    def from_state(
        cls, values: Mapping[str, Any], arrays: Mapping[str, Array], *, encoder: EncoderFactory | None
    ) -> FeatureEncoder:
        """Restore the result of `state`; `encoder` as for `fit`."""
        encoders = []
        for index, entry in enumerate(values["blocks"]):
            described = entry["column"]
            column = Column(described["name"], described["kind"], tuple(described["shape"]))
            text_encoder = _build_encoder(column, encoder) if column.kind == "text" else None
            own_arrays = select_prefix(f"{index}.", arrays)
            encoders.append(restore(column, entry["values"], own_arrays, text_encoder))
        return cls(encoders, values["notes"])


def _fit_column(
    column: Column,
    cells: Array,
    missing: MissingPolicy,
    statistics: ColumnStatistics,
    encoder: EncoderFactory | None,
) -> ColumnEncoder:
    if column.kind == "category":
        return CategoryColumn.fit(column, statistics)
    if column.kind == "text":
        return TextColumn.fit(column, cells, _build_encoder(column, encoder))
    if column.kind == "image":
        return PixelColumn(column)
    return NumericColumn.fit(column, cells, missing, statistics)


def _build_encoder(column: Column, factory: EncoderFactory | None) -> Encoder:
    if factory is None:
        raise DataError(f"column `{column.name}` holds text, and this data source has no `encoder` for it")
    return factory()


def _transform(encoder: ColumnEncoder, rows: Rows, context: DataContext) -> Features:
    features = encoder.transform(_cells_of(encoder.column, rows), context)
    invalid = _invalid(features)
    if invalid.any():
        raise encoder.invalid_error(invalid, rows.ids)
    return features


def _invalid(features: Features) -> Bools:
    """Return a mask of the features that are not finite; a single False for pixels, which always are."""
    return ~np.isfinite(features) if features.dtype.kind == "f" else np.zeros((1, 1), dtype=bool)


def _cells_of(column: Column, rows: Rows) -> Array:
    name, shape = column.name, column.shape
    if name not in rows.columns:
        raise DataError(f"the rows have no column `{name}`{did_you_mean(name, rows.columns)}")
    cells = rows.columns[name]
    if cells.shape[1:] != shape:
        raise DataError(f"column `{name}` has entries of shape {cells.shape[1:]}, training had {shape}")
    return cells


def _concatenate(parts: Sequence[Features]) -> Features:
    """Return features side by side; a single part is not copied."""
    if len(parts) == 1:
        return parts[0]
    matrix: Features = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts], axis=1)
    return matrix


def _drop_reason(column: Column, statistics: ColumnStatistics, missing: MissingPolicy) -> str:
    """Return the reason that a column carries no information, '' if it does; texts and vectors always do."""
    if column.kind == "numeric":
        if not statistics.finite:
            return "all its cells are missing"
        if (statistics.complete or missing != "error") and statistics.constant:
            return "all its cells are equal"
    if column.kind == "category":
        if statistics.categories <= {None}:
            return "all its cells are missing"
        if len(statistics.categories) == 1:
            return "all its cells are equal"
    return ""

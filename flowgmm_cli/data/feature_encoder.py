"""Encode input columns as a matrix of numbers, with column encoders fitted on training rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder, Rows
from flowgmm_cli.data.array_types import Array, Bytes, Floats
from flowgmm_cli.data.column_analysis import LEAK, has_few_categories, leaks_label
from flowgmm_cli.data.column_encoders import (
    CategoryColumn,
    ColumnEncoder,
    HashedColumn,
    NumericColumn,
    PixelColumn,
    UnseenCategories,
    VectorColumn,
    as_strings,
    cells_of,
)
from flowgmm_cli.data.dates import DateColumn
from flowgmm_cli.data.sources.columns import ColumnStatistics, canonical
from flowgmm_cli.data.specs import DATE_PARTS, MissingPolicy
from flowgmm_cli.encoders.efficientnet import EfficientNetLite0Encoder
from flowgmm_cli.errors import DataError
from flowgmm_cli.messages import join_some, override

_MAX_LISTED = 8

Features = Floats | Bytes

EncoderFactory = Callable[[], Encoder]
"""Builds a text encoder: each text column has its own, since some encoders are fitted."""


class FeatureEncoder:
    """The column encoders of the input columns in use; their features side by side are the feature matrix."""

    def __init__(self, encoders: Sequence[ColumnEncoder], notes: Sequence[str] = ()) -> None:
        self.encoders = tuple(encoders)
        self.notes = tuple(notes)
        self.feature_names = [name for encoder in self.encoders for name in encoder.names]

    @classmethod
    def fit(
        cls,
        rows: Rows,
        columns: Sequence[Column],
        *,
        missing: MissingPolicy,
        encoder: EncoderFactory | None,
        dates: Sequence[str] = DATE_PARTS,
        categorical: Collection[str] | None = None,
        chosen: Collection[str] | None = None,
        labelled: Rows | None = None,
        statistics: Mapping[str, ColumnStatistics] | None = None,
    ) -> FeatureEncoder:
        """Fit to training rows; a column without information is left out.

        Args:
            rows: the training rows, or a sample of them.
            columns: the input columns.
            missing: treatment of missing cells.
            encoder: builds encoders for text columns.
            dates: features of a date.
            categorical: columns whose categories are features of their own, however many there are.
            chosen: columns to keep though they tell the class of every labelled row; None keeps all.
            labelled: rows whose labels show this; by default `rows`.
            statistics: statistics of the columns of all training rows, if `rows` are a sample.
        """

        def fit_column(column: Column, known: ColumnStatistics) -> ColumnEncoder | str:
            """Return the fitted encoder, or the reason that the column is left out."""
            cells = rows.columns[column.name]
            if column.kind == "text":
                text_encoder = _build_encoder(column, encoder)
                text_encoder.fit(as_strings(cells))
                return VectorColumn(column, text_encoder)
            if column.kind == "image":
                return (
                    VectorColumn(column, _build_encoder(column, encoder)) if encoder else PixelColumn(column)
                )
            if reason := _drop_reason(column, known, missing):
                return reason
            if chosen is not None and column.name not in chosen and _leaks(column, labelled or rows):
                return LEAK
            if column.kind == "category":
                few = has_few_categories(len(known.categories), known.cells)
                separate = few or column.name in (categorical or ())
                return CategoryColumn.fit(column, known) if separate else HashedColumn(column)
            if column.kind == "date":
                fitted = DateColumn.fit(column, cells, missing, known).choose_parts(dates, cells)
                return fitted if fitted.parts else "equal in all of data.dates"
            return NumericColumn.fit(column, cells, missing, known)

        encoders: list[ColumnEncoder] = []
        notes: list[tuple[str, str]] = []
        for column in columns:
            if statistics is None:
                known = ColumnStatistics()
                known.add(column, rows.columns[column.name])
            else:
                known = statistics[column.name]
            fitted = fit_column(column, known)
            if isinstance(fitted, str):
                notes.append((f"left out {{}} ({fitted})", column.name))
            else:
                encoders.append(fitted)
                notes += [(remark, column.name) for remark in _remarks(fitted, known, missing)]
        if not encoders:
            hint = "check data.features and data.drop"
            raise DataError("no input column is left", details=_name_columns(notes), hint=hint)
        return cls(encoders, _name_columns(notes))

    @property
    def inexact(self) -> tuple[str, ...]:
        """Reasons that the density of the matrix is not that of the input columns; empty if it is."""
        named = [(encoder.inexact, encoder.column.name) for encoder in self.encoders if encoder.inexact]
        return tuple(_name_columns(named))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns in use."""
        return tuple(encoder.column for encoder in self.encoders)

    @property
    def encoded(self) -> tuple[Column, ...]:
        """The columns of texts, and of images without their pixels: features are vectors of an encoder."""
        return tuple(encoder.column for encoder in self.encoders if isinstance(encoder, VectorColumn))

    @property
    def layout(self) -> list[tuple[Column, slice]]:
        """The input columns in use, each with its columns of the matrix."""
        ends = np.cumsum([0, *(len(encoder.names) for encoder in self.encoders)]).tolist()
        return [
            (encoder.column, slice(*part))
            for encoder, part in zip(self.encoders, pairwise(ends), strict=True)
        ]

    @property
    def whole(self) -> frozenset[str]:
        """Names of the columns whose training cells are whole numbers."""
        numeric = [encoder for encoder in self.encoders if isinstance(encoder, NumericColumn | PixelColumn)]
        return frozenset(
            encoder.column.name for encoder in numeric if encoder.whole and encoder.column.kind != "date"
        )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest training value of each column of numbers, if known."""
        return {
            encoder.column.name: encoder.range
            for encoder in self.encoders
            if isinstance(encoder, NumericColumn | PixelColumn) and encoder.range is not None
        }

    def transform(self, rows: Rows, context: DataContext) -> Features:
        """Return float64 `(N, D)`, all finite; uint8 if the rows are images and nothing else.

        Cells that training never saw are noted. Raises `DataError` for a row that cannot be used.
        """
        matrix, problems = self.transform_valid(rows, context)
        if problems:
            first, count = min(problems), Counter(problems.values())
            reason = problems[first]
            raise DataError(
                f"{reason}: {count[reason]:,} rows, the first is {rows.ids[first]}",
                hint="correct these rows; data.missing=median fills in missing cells",
            )
        if not context.streaming:
            unseen = UnseenCategories(self.encoders)
            unseen.add(rows)
            for cells in unseen.describe():
                context.note(cells.text)
        return matrix

    def transform_column(self, name: str, rows: Rows, context: DataContext) -> Features:
        """Return the features of an input column in use, `(N, d)`."""
        encoder = next(encoder for encoder in self.encoders if encoder.column.name == name)
        return encoder.transform(cells_of(encoder.column, rows), context)

    def transform_valid(self, rows: Rows, context: DataContext) -> tuple[Features, dict[int, str]]:
        """Return the matrix, and positions and reasons of the rows whose features are not finite."""
        parts = [encoder.transform(cells_of(encoder.column, rows), context) for encoder in self.encoders]
        matrix = parts[0]
        if len(parts) > 1:
            matrix = np.concatenate([np.asarray(part, np.float64) for part in parts], axis=1)
        problems: dict[int, str] = {}
        if matrix.dtype.kind == "u" or np.isfinite(matrix).all():  # pixels are finite
            return matrix, problems
        for encoder, part in zip(self.encoders, parts, strict=True):
            reason = encoder.invalid_reason.format(encoder.column.name)
            for position in np.flatnonzero(~np.isfinite(part).all(axis=1)).tolist():
                problems.setdefault(position, reason)
        return matrix, problems

    def invert(self, matrix: Floats) -> dict[str, Array | None]:
        """Return the input columns in use of a matrix `(N, D)`, in the units and shapes of the input.

        Numbers are rounded if training saw only whole numbers; a text column is None: it has no inverse.
        """
        return {
            encoder.column.name: encoder.invert(matrix[:, columns])
            for encoder, (_, columns) in zip(self.encoders, self.layout, strict=True)
        }

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return (JSON values, arrays)."""
        values: dict[str, Any] = {"blocks": [], "notes": list(self.notes)}
        arrays: dict[str, Array] = {}
        for index, encoder in enumerate(self.encoders):
            column = encoder.column
            encoder_values, encoder_arrays = encoder.state()
            described = {"name": column.name, "kind": column.kind, "shape": list(column.shape)}
            described |= {"format": column.format} if column.format else {}
            values["blocks"].append({"column": described, "values": encoder_values})
            arrays |= {f"{index}.{name}": array for name, array in encoder_arrays.items()}
        return values, arrays

    @classmethod
    def from_state(
        cls, values: Mapping[str, Any], arrays: Mapping[str, Array], *, encoder: EncoderFactory | None
    ) -> FeatureEncoder:
        """Restore the result of `state`; `encoder` as for `fit`."""
        own: defaultdict[str, dict[str, Array]] = defaultdict(dict)
        for name, array in arrays.items():  # once, since there may be many columns
            index, _, rest = name.partition(".")
            own[index][rest] = array
        encoders = [_restore(entry, own[f"{at}"], encoder) for at, entry in enumerate(values["blocks"])]
        return cls(encoders, values["notes"])


def _build_encoder(column: Column, factory: EncoderFactory | None) -> Encoder:
    if factory is None:
        raise DataError(f"column `{column.name}` holds text, and this data source has no `encoder` for it")
    encoder = factory()
    if isinstance(encoder, EfficientNetLite0Encoder) is not (column.kind == "image"):
        raise DataError(
            f"column `{column.name}` holds {column.kind}s, which the encoder in data.encoder does not read",
            hint="efficientnet_lite0 reads images, the other encoders read texts",
        )
    return encoder


def _restore(
    entry: Mapping[str, Any], arrays: Mapping[str, Array], factory: EncoderFactory | None
) -> ColumnEncoder:
    """Restore a column encoder from its `state`."""
    column = Column(**{**entry["column"], "shape": tuple(entry["column"]["shape"])})
    values = entry["values"]
    if column.kind == "text" or (column.kind == "image" and factory is not None):
        encoder = _build_encoder(column, factory)
        encoder.load_state(values, arrays)
        return VectorColumn(column, encoder)
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    if column.kind == "category":
        return CategoryColumn(column, **values) if "categories" in values else HashedColumn(column, **values)
    if column.kind == "image":
        return PixelColumn(column)
    numeric = DateColumn if column.kind == "date" else NumericColumn
    return numeric(column, **{"fill": None, **values, **arrays})


def _drop_reason(column: Column, statistics: ColumnStatistics, missing: MissingPolicy) -> str:
    """Return the reason that a column carries no information, '' if it does; texts and vectors always do."""
    if column.kind == "category":
        empty, constant = statistics.categories <= {None}, len(statistics.categories) == 1
    elif column.kind in ("numeric", "date"):
        empty = not statistics.finite
        constant = statistics.constant and (statistics.complete or missing != "error")
    else:
        return ""
    if empty:
        return "all its cells are missing in the training rows"
    return "all its cells are equal in the training rows" if constant else ""


def _leaks(column: Column, rows: Rows) -> bool:
    """Return True if a column tells the class of every labelled row."""
    labelled = np.flatnonzero(rows.labels >= 0)
    plain = column.kind in ("numeric", "category")
    return plain and leaks_label(rows.columns[column.name][labelled], rows.labels[labelled])


def _remarks(encoder: ColumnEncoder, statistics: ColumnStatistics, missing: MissingPolicy) -> Iterator[str]:
    """Yield notes about an encoder, with `{}` for the names of the columns."""
    if isinstance(encoder, NumericColumn) and encoder.has_missing:
        yield f"missing cells of {{}} are filled in with the {missing} of the training rows"
        if encoder.marked:
            yield "a tenth or more of the cells of {} is missing: a feature of 0 and 1 marks them"
    if isinstance(encoder, HashedColumn):
        yield (
            f"{{}}: many categories, hashed into {encoder.size} features; "
            f"{override('data.categorical', encoder.column.name)} gives each a feature of its own"
        )
    cells = statistics.categories
    twice = sorted(cell for cell in cells if cell is not None and canonical(cell) in cells - {cell})
    if twice:
        yield f"{{}}: `{twice[0]}` and `{canonical(twice[0])}` are one category"


def _name_columns(remarks: Sequence[tuple[str, str]]) -> list[str]:
    """Return the distinct remarks among (remark, column), with the columns of each in the place of `{}`."""
    columns: dict[str, list[str]] = {}
    for remark, name in remarks:
        columns.setdefault(remark, []).append(f"`{name}`")
    return [
        remark.replace("{}", join_some(names, len(names), _MAX_LISTED), 1)
        for remark, names in columns.items()
    ]

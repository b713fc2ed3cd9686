"""From input columns to one matrix of numbers, with everything fitted on training rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Encoder, Rows
from flowgmm_cli.data.column_encoders import Block, Categories, Numbers, Pixels, Text, restore
from flowgmm_cli.data.large.statistics import ColumnStatistics, apply_statistics, unusable_reason
from flowgmm_cli.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt

    from flowgmm_cli.data.specs import MissingPolicy

    Features = npt.NDArray[np.float64] | npt.NDArray[np.uint8]

EncoderFactory = Callable[[], Encoder]
"""Builds a new encoder: each text column has one of its own, since some are fitted."""


class FeatureEncoder:
    """The feature matrix's blocks, one per input column that is in use.

    Attributes:
        feature_names: D names.
        notes: columns left out and cells filled in, one line each.
    """

    def __init__(self, blocks: Sequence[Block], notes: Sequence[str] = ()) -> None:
        self._blocks = tuple(blocks)
        self.notes = tuple(notes)
        self.feature_names = [name for block in self._blocks for name in block.names]

    @classmethod
    def fit(
        cls,
        rows: Rows,
        columns: Sequence[Column],
        *,
        missing: MissingPolicy,
        encoder: EncoderFactory | None,
        facts: Mapping[str, ColumnStatistics] | None = None,
    ) -> FeatureEncoder:
        """Fit to training rows.

        Args:
            rows: the training rows, or some of them.
            columns: the input columns.
            missing: what becomes of missing cells.
            encoder: makes encoders for columns of texts.
            facts: what is known of the columns of all training rows, where `rows` are some of them.

        Raises:
            DataError: no column carries anything, a text column has no encoder, or a numeric cell is missing
                and `missing` is `error`.
        """
        blocks: list[Block] = []
        notes = []
        for column in columns:
            cells = rows.columns[column.name]
            known = facts.get(column.name) if facts else None
            if (
                reason := _useless(column, cells, missing)
                if known is None
                else unusable_reason(column, known, missing)
            ):
                notes.append(f"column `{column.name}` is left out: {reason} in the training rows")
                continue
            block = _fit_block(column, cells, missing, encoder)
            block = block if known is None else apply_statistics(block, known)
            blocks.append(block)
            if isinstance(block, Numbers) and block.inexact:
                notes.append(f"{block.inexact} with the {missing} of the training rows")
        if not blocks:
            raise DataError(
                "no input column is left", details=notes, hint="check data.features and data.drop"
            )
        return cls(blocks, notes)

    @property
    def inexact(self) -> tuple[str, ...]:
        """Why the density of the matrix is not that of the input columns; empty if it is."""
        return tuple(block.inexact for block in self._blocks if block.inexact)

    @property
    def exact(self) -> bool:
        """Whether the matrix holds the input columns as they are."""
        return not self.inexact

    @property
    def columns(self) -> tuple[Column, ...]:
        """The input columns in use."""
        return tuple(block.column for block in self._blocks)

    @property
    def layout(self) -> list[tuple[Column, slice]]:
        """The input columns in use, each with its place in the matrix."""
        ends = np.cumsum([0, *(len(block.names) for block in self._blocks)]).tolist()
        return [
            (block.column, slice(start, stop))
            for block, start, stop in zip(self._blocks, ends, ends[1:], strict=False)
        ]

    def transform(self, rows: Rows, context: DataContext) -> Features:
        """Return float64 `(N, D)`, all finite; uint8 where the rows are images and nothing else.

        Raises:
            DataError: a column is not there or has another shape, or a cell is missing and may not be.
        """
        return _joined([self._transform(block, rows, context) for block in self._blocks])

    def transform_column(self, name: str, rows: Rows, context: DataContext) -> Features:
        """Return the features of one input column in use, `(N, d)`; errors as for `transform`."""
        block = next(block for block in self._blocks if block.column.name == name)
        return self._transform(block, rows, context)

    def usable(self, rows: Rows, context: DataContext) -> tuple[Features, dict[int, str]]:
        """Return what `transform` does, and of the rows that it would refuse the positions and reasons.

        Such a row holds entries that are not finite.

        Raises:
            DataError: a column is not there or has another shape.
        """
        parts = []
        problems: dict[int, str] = {}
        for block in self._blocks:
            part = block.features(self._cells(block, rows), context)
            if not np.isfinite(part).all():
                for position in np.flatnonzero(~np.isfinite(part).all(axis=1)).tolist():
                    problems.setdefault(position, block.refusal)
            parts.append(part)
        return _joined(parts), problems

    def _transform(self, block: Block, rows: Rows, context: DataContext) -> Features:
        return block.transform(self._cells(block, rows), rows.ids, context)

    def _cells(self, block: Block, rows: Rows) -> npt.NDArray[Any]:
        name, shape = block.column.name, block.column.shape
        if name not in rows.columns:
            raise DataError(f"the rows have no column `{name}`{did_you_mean(name, rows.columns)}")
        cells = rows.columns[name]
        if cells.shape[1:] != shape:
            raise DataError(f"column `{name}` has entries of shape {cells.shape[1:]}, training had {shape}")
        return cells

    def invert(self, matrix: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[Any] | None]:
        """Return the input columns in use for a matrix `(N, D)`, in the units and shapes of the input.

        Exact for numbers, but where training saw only whole ones the nearest whole number is taken; of a
        category the one with the largest feature. A text has no inverse: its column is None.
        """
        return {
            block.column.name: block.invert(matrix[:, place])
            for block, (_, place) in zip(self._blocks, self.layout, strict=True)
        }

    @property
    def whole(self) -> frozenset[str]:
        """Names of the columns in which training saw whole numbers only."""
        return frozenset(
            block.column.name for block in self._blocks if isinstance(block, Numbers | Pixels) and block.whole
        )

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """The smallest and the largest training value of each column of numbers for which they are known."""
        return {
            block.column.name: block.range
            for block in self._blocks
            if isinstance(block, Numbers | Pixels) and block.range is not None
        }

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays)."""
        values: dict[str, Any] = {"blocks": [], "notes": list(self.notes)}
        arrays: dict[str, npt.NDArray[Any]] = {}
        for index, block in enumerate(self._blocks):
            column = block.column
            block_values, block_arrays = block.state()
            described = {"name": column.name, "kind": column.kind, "shape": list(column.shape)}
            values["blocks"].append({"column": described, "values": block_values})
            arrays |= {f"{index}.{name}": array for name, array in block_arrays.items()}
        return values, arrays

    @classmethod
    def from_state(
        cls,
        values: Mapping[str, Any],
        arrays: Mapping[str, npt.NDArray[Any]],
        *,
        encoder: EncoderFactory | None,
    ) -> FeatureEncoder:
        """Restore what `state` returned; `encoder` as for `fit`."""
        blocks = []
        for index, one in enumerate(values["blocks"]):
            described = one["column"]
            column = Column(described["name"], described["kind"], tuple(described["shape"]))
            own = {
                name.removeprefix(f"{index}."): array
                for name, array in arrays.items()
                if name.startswith(f"{index}.")
            }
            made = _encoder(column, encoder) if column.kind == "text" else None
            blocks.append(restore(column, one["values"], own, made))
        return cls(blocks, values["notes"])


def _fit_block(
    column: Column, cells: npt.NDArray[Any], missing: MissingPolicy, encoder: EncoderFactory | None
) -> Block:
    if column.kind == "category":
        return Categories.fit(column, cells)
    if column.kind == "text":
        return Text.fit(column, cells, _encoder(column, encoder))
    if column.kind == "image":
        return Pixels(column)
    return Numbers.fit(column, cells, missing)


def _encoder(column: Column, factory: EncoderFactory | None) -> Encoder:
    if factory is None:
        raise DataError(
            f"column `{column.name}` holds text, and this data source has no `encoder` to make vectors of it"
        )
    return factory()


def _joined(parts: Sequence[Features]) -> Features:
    """Blocks side by side; a single one is not copied."""
    if len(parts) == 1:
        return parts[0]
    joined: Features = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts], axis=1)
    return joined


def _useless(column: Column, cells: npt.NDArray[Any], missing: MissingPolicy) -> str:
    """Why a column carries nothing: '' if it does. Texts and vectors are taken whole."""
    if column.kind == "numeric":
        known = cells[np.isfinite(cells)]
        if len(known) == 0:
            return "all its cells are missing"
        if (len(known) == len(cells) or missing != "error") and known.min() == known.max():
            return "all its cells are equal"
    if column.kind == "category":
        if all(cell is None for cell in cells):
            return "all its cells are missing"
        if len(set(cells)) == 1:
            return "all its cells are equal"
    return ""

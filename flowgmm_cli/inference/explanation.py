"""Reasons of predictions as texts, as columns of a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgmm_cli.api import Column
from flowgmm_cli.data.array_types import Array, Columns
from flowgmm_cli.data.dates import readable_cells
from flowgmm_cli.inference.change import Change
from flowgmm_cli.inference.table_result import TableResult

SHOWN, LISTED = 3, 10
"""Reasons of a row in a text, and in JSON."""


@dataclass(frozen=True)
class Reason:
    """A cell or word with its effect.

    Attributes:
        name: name of the column, with an index for an entry of a vector, or a word in quotes.
        value: the cell; None for a word.
        effect: loss of log-odds of the class, or gain in log-density, without it, in nats.
        usual: the likeliest value among rows that are alike otherwise, for an effect on the density.
    """

    name: str
    value: str | None
    effect: float
    usual: str | None = None

    def describe(self) -> str:
        """Return a short text, such as `petal_length 5.1 (+2.3)`."""
        usual = f", usual {self.usual}" if self.usual is not None else ""
        return f"{self.name}{'' if self.value is None else f' {self.value}'} (+{self.effect:.1f}{usual})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, repr=False)
class Explanation(TableResult):
    """Reasons of rows, the largest effect first; a row that cannot be scored has none.

    Attributes:
        ids: names of the rows, `(N,)`.
        why: reasons of the predicted class of each row.
        why_ood: reasons of its low density.
        nearest: id of the ordinary training row with the nearest latent, None for an unscorable row, `(N,)`.
        changes: changes to the second class; None for a model that reads more than numbers.
    """

    ids: Array
    why: Sequence[Sequence[Reason]]
    why_ood: Sequence[Sequence[Reason]]
    nearest: Array
    changes: Sequence[Change | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def table(self) -> Columns:
        """Return the columns `id, why, why_ood, nearest` as texts, and `change` for a model of numbers."""

        def describe(reasons: Sequence[Sequence[Reason]]) -> Array:
            texts = [", ".join(reason.describe() for reason in row[:SHOWN]) or None for row in reasons]
            return np.array(texts, dtype=object)

        columns = {"id": self.ids, "why": describe(self.why), "why_ood": describe(self.why_ood)}
        columns["nearest"] = self.nearest
        if self.changes is not None:
            texts = [change.describe() if change else None for change in self.changes]
            columns["change"] = np.array(texts, dtype=object)
        return columns

    def to_lists(self) -> dict[str, Any]:
        """Return the same columns with a list of reasons in each cell, as Arrow arrays."""
        import pyarrow as pa

        rows = self.to_dicts()
        return {name: pa.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}

    def to_dicts(self) -> list[dict[str, Any]]:
        """Return each row as plain values for JSON, with its first reasons."""
        rows = []
        for place, row_id in enumerate(self.ids.tolist()):
            pair = {"why": self.why[place], "why_ood": self.why_ood[place]}
            row: dict[str, Any] = {"id": str(row_id)}
            row |= {name: [reason.to_dict() for reason in part[:LISTED]] for name, part in pair.items()}
            row["nearest"] = self.nearest[place]
            if self.changes is not None:
                change = self.changes[place]
                row["change"] = change.to_dict() if change else None
            rows.append(row)
        return rows


def format_value(column: Column, value: Any) -> str:
    """Format a cell: a date as in its table, a number with four digits."""
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "(missing)"
    if column.kind == "date":
        return str(readable_cells(column, np.array([value]))[0])
    return str(value) if column.kind == "category" else f"{float(value):.4g}"

"""The smallest change of a row of numbers to another class, through the inverse of the flow.

The latent moves towards the mean of the second class until the model predicts that class, and the inverse of
the flow gives the row there. Columns that need no change take their own value again, and the others move back
as far as the class allows. The result is rounded and checked: the model gives the rounded row the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import DataContext, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Bools, Floats, Ints
from flowgmm_cli.trained_model import TrainedModel, encode

_STEPS = 24  # on the way to the mean of a class
_HALVINGS = 8  # on the way back
_DIGITS = (4, 8, 17)  # of the numbers of a change
_BATCH_ROWS = 1024
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class Change:
    """A change of some columns after which a row is of another class."""

    class_name: str
    columns: tuple[tuple[str, float, float], ...]  # name, value before and after

    def describe(self) -> str:
        """Return a short text, such as `petal_length 5.1 -> 4.2: versicolor`."""
        parts = [f"{name} {_shorten(before)} -> {_shorten(after)}" for name, before, after in self.columns]
        return f"{', '.join(parts)}: {self.class_name}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        columns = [{"name": name, "from": before, "to": after} for name, before, after in self.columns]
        return {"class": self.class_name, "columns": columns}


def _shorten(value: float) -> str:
    """Return the shortest text of a number from which it can be read again."""
    return f"{value:.4g}" if float(f"{value:.4g}") == value else repr(value)


class Changer:
    """Finds changes to the second class for a model of numbers; see `fits`."""

    def __init__(self, trained: TrainedModel, context: DataContext) -> None:
        self.trained, self.context = trained, context
        self.columns = trained.preprocessor.columns
        self.encoder = trained.preprocessor.feature_encoder

    @staticmethod
    def fits(trained: TrainedModel) -> bool:
        """Return True if all columns of the model are numbers, and there is a second class."""
        kinds = {column.kind for column in trained.preprocessor.columns}
        return kinds <= {"numeric", "vector"} and len(trained.class_names) > 1

    def find(self, rows: Rows) -> list[Change | None]:
        """Find a change of each row, all of which can be scored; None without one, or with missing cells."""
        changes: list[Change | None] = []
        for part in iterate_batches(len(rows), _BATCH_ROWS):
            changes += self._find(rows.take(np.arange(part.start, part.stop)))
        return changes

    def _find(self, rows: Rows) -> list[Change | None]:
        cells = self._flatten(rows)
        target, path = self._follow_path(rows)
        changed, found = cells.copy(), np.zeros(len(rows), dtype=bool)
        complete = np.isfinite(cells).all(axis=1)
        for step in path:
            new = self._is_class(step, target) & ~found & complete
            changed[new], found = step[new], found | new
        changed = self._revert_columns(cells, changed, target, found)
        changed = self._shrink(cells, changed, target, found)
        result, found = self._round(cells, changed, target, found)
        names = self._names()
        changes: list[Change | None] = []
        for place in range(len(rows)):
            moved = tuple(
                (names[at], float(cells[place, at]), float(result[place, at]))
                for at in np.flatnonzero((result[place] != cells[place]) & found[place])
            )
            changes.append(Change(self.trained.class_names[target[place]], moved) if moved else None)
        return changes

    def _follow_path(self, rows: Rows) -> tuple[Ints, list[Floats]]:
        """Return the second class of each row, and the cells `(N, D)` on the way to its mean."""
        part = self.trained.model.parts[0]
        features = np.asarray(self.encoder.transform(rows, self.context), np.float64)
        x, _ = self.trained.preprocessor.transform_features(torch.from_numpy(features))
        second = encode(self.trained.model, x).class_log_prob.argsort(1, descending=True)[:, 1]
        device = part.temperature.device
        with torch.no_grad():
            z = part.embed(x.to(device))
            components, dims = part.mixture.components, part.mixture.dims
            means = part.mixture.means.reshape(-1, components, dims)[second.to(device)]
            nearest = (means - z[:, None, :dims]).norm(dim=2).argmin(1)
            mean = means[torch.arange(len(z), device=device), nearest]
            path = []
            for share in np.linspace(0, 1, _STEPS + 1)[1:].tolist():
                moved = z.clone()
                moved[:, :dims] += share * (mean - z[:, :dims])
                inverse = self.trained.preprocessor.invert(part.flow.inverse(moved).cpu())
                path.append(self._flatten_cells(inverse, len(rows)))
        return second.numpy(), path

    def _revert_columns(self, cells: Floats, changed: Floats, target: Ints, found: Bools) -> Floats:
        """Give columns their own value again where the class stays, those with the smallest change first."""
        size = np.nan_to_num(np.abs(changed - cells))
        order = np.argsort(size / np.maximum(size.mean(axis=0), _TINY), axis=1)
        rows = np.arange(len(cells))
        for column in order.T:
            trial = changed.copy()
            trial[rows, column] = cells[rows, column]
            keeps = found & self._is_class(trial, target)
            changed = np.where(keeps[:, None], trial, changed)
        return changed

    def _shrink(self, cells: Floats, changed: Floats, target: Ints, found: Bools) -> Floats:
        """Move rows back towards their own values, as far as the class stays."""
        low, high = np.zeros(len(cells)), np.ones(len(cells))
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_class = self._is_class(self._set_whole(cells + middle[:, None] * (changed - cells)), target)
            low, high = np.where(is_class, low, middle), np.where(is_class, middle, high)
        shrunk = self._set_whole(cells + high[:, None] * (changed - cells))
        keeps = found & self._is_class(shrunk, target)
        return np.where(keeps[:, None], shrunk, changed)

    def _round(self, cells: Floats, changed: Floats, target: Ints, found: Bools) -> tuple[Floats, Bools]:
        """Round changed cells to as few digits as keep the class; return a mask of the rows that have it."""
        result, settled = changed.copy(), np.zeros(len(cells), dtype=bool)
        moved = changed != cells
        for digits in _DIGITS:
            texts = np.vectorize(lambda value, digits=digits: float(f"{value:.{digits}g}"), otypes=[float])
            trial = np.where(moved, texts(changed), cells)
            new = found & ~settled & self._is_class(trial, target)
            result[new], settled = trial[new], settled | new
        return result, settled

    def _is_class(self, cells: Floats, target: Ints) -> Bools:
        """Return a mask of the rows of cells `(N, D)` that the model gives the class `target`."""
        values = self._to_columns(cells)
        rows = Rows(values, np.full(len(cells), -1), np.arange(len(cells)).astype(str))
        features, refused = self.encoder.transform_valid(rows, self.context)
        features = np.asarray(features, np.float64).copy()
        features[list(refused)] = 0.0
        x, _ = self.trained.preprocessor.transform_features(torch.from_numpy(features))
        finite = x.isfinite().all(1)
        predicted = encode(self.trained.model, torch.where(finite[:, None], x, 0.0)).class_log_prob.argmax(1)
        mask: Bools = (predicted.numpy() == target) & finite.numpy()
        mask[list(refused)] = False
        return mask

    # --- rows as matrices of cells ---

    def _names(self) -> list[str]:
        names: list[str] = []
        for column in self.columns:
            size = int(np.prod(column.shape))
            names += [f"{column.name}[{entry}]" for entry in range(size)] if column.shape else [column.name]
        return names

    def _flatten(self, rows: Rows) -> Floats:
        return self._flatten_cells(rows.columns, len(rows))

    def _flatten_cells(self, columns: Any, count: int) -> Floats:
        parts = [np.asarray(columns[column.name], np.float64).reshape(count, -1) for column in self.columns]
        return np.concatenate(parts, axis=1)

    def _to_columns(self, cells: Floats) -> dict[str, Array]:
        sizes = [int(np.prod(column.shape)) for column in self.columns]
        parts = np.split(cells, np.cumsum(sizes)[:-1], axis=1)
        return {
            column.name: part.reshape(len(cells), *column.shape)
            for column, part in zip(self.columns, parts, strict=True)
        }

    def _set_whole(self, cells: Floats) -> Floats:
        """Round the columns whose training cells are whole numbers."""
        whole = [
            column.name in self.encoder.whole
            for column in self.columns
            for _ in range(int(np.prod(column.shape)))
        ]
        return np.where(whole, np.rint(cells), cells)

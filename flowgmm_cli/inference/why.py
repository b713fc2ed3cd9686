"""Reasons of predictions: the cells and words behind a class, and those that make a row unlikely.

A cell is replaced by others, a word is left out, and the model scores the row again. The loss of log-odds
between the first class and the second with the typical value of the column is the effect of the cell on the
class. Its effect on the density is the gain in log-density, on average of the cells of the rows that are most
alike in the other columns: values that are usual in such a row, not in the column alone. The density is that
of the flow's inputs: in the units of the columns, cells that many rows share would outweigh all others.
Gradients choose the cells of wide tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.array_types import Array, Bools, Floats, Ints
from flowgmm_cli.data.column_encoders import as_strings
from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference.change import Change, Changer
from flowgmm_cli.inference.explanation import Explanation, Reason, format_value
from flowgmm_cli.trained_model import TrainedModel, encode

_SIMILAR = 6  # rows whose cells replace a cell
_MOST_SIMILAR = 3000  # training rows among which these are sought
_MOST_CELLS = 128  # of a row that are replaced; gradients choose among more
_MOST_WORDS = 100  # of a text that are left out
_BATCH_ROWS = 8192
_LEAST_EFFECT = 0.05  # nats
_MOST_NEIGHBOURS = 20_000  # training rows among which the nearest is sought
_ORDINARY = 0.05  # share of these rows whose density is too low for an ordinary one
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class _Cell:
    """The typical value of a column of numbers or categories, or of an entry of a vector."""

    column: Column
    name: str
    entry: int | None  # of a vector
    place: slice  # in the feature matrix
    features: Floats  # of the typical value `(d,)`

    def describe(self, rows: Rows, row: int) -> str:
        """Return the cell of a row as text."""
        value = rows.columns[self.column.name][row]
        return format_value(self.column, value if self.entry is None else value.reshape(-1)[self.entry])


class Explainer:
    """Finds reasons for the predictions of a model.

    Args:
        trained: the model.
        rows: its training rows, or some of them.
        context: of the encoders.

    Raises:
        UsageError: the model reads images.
    """

    def __init__(self, trained: TrainedModel, rows: Rows, context: DataContext) -> None:
        if any(column.kind == "image" for column in trained.preprocessor.columns):
            raise UsageError(
                "reasons are columns and words, and this model reads images",
                hint="flowgmm sample --transfer shows a row as each of the classes",
            )
        self.trained, self.context = trained, replace(context, streaming=True)
        self.encoder = trained.preprocessor.feature_encoder
        self.texts = [(column, place) for column, place in self.encoder.layout if column.kind == "text"]
        self.changer = Changer(trained, self.context) if Changer.fits(trained) else None
        self._fit_neighbours(rows, context)  # vectors of training texts may be cached
        self.cells = [
            cell
            for column, place in self.encoder.layout
            if column.kind != "text"
            for cell in self._typical_values(column, place, rows)
        ]

    @property
    def names(self) -> list[str]:
        """Names of the columns of reasons."""
        return ["why", "why_ood", "nearest", *(["change"] if self.changer else [])]

    def _fit_neighbours(self, rows: Rows, context: DataContext) -> None:
        from sklearn.neighbors import NearestNeighbors

        rows = rows.take(np.arange(0, len(rows), -(-len(rows) // _MOST_NEIGHBOURS)))
        split, refused = self.trained.preprocessor.apply_valid(rows, context, with_inputs=True)
        latents = encode(self.trained.model, split.x)
        density = latents.log_prob().numpy()
        ordinary = density >= np.quantile(density, _ORDINARY)
        rows = rows.take(np.delete(np.arange(len(rows)), list(refused))[ordinary])
        self.ids = rows.ids.astype(str).astype(object)
        self.neighbours = NearestNeighbors(n_neighbors=1).fit(latents.z.numpy()[ordinary])
        some = np.arange(0, len(rows), -(-len(rows) // _MOST_SIMILAR))
        features = np.asarray(cast(Tensor, split.inputs), np.float64)[ordinary][some]
        spread = features.std(axis=0)
        self.similar, self.features = rows.take(some), features
        self.spread = np.where(spread > 0, spread, 1.0)

    def _typical_values(self, column: Column, place: slice, rows: Rows) -> Iterator[_Cell]:
        cells = rows.columns[column.name]
        if column.kind == "category":
            names, counts = np.unique(as_strings(cells), return_counts=True)
            value = np.array([names[counts.argmax()] or None], dtype=object)
            yield _Cell(column, column.name, None, place, self._encode(column, value)[0])
            return
        numbers = np.asarray(cells, np.float64).reshape(len(cells), -1)
        for entry, values in enumerate(numbers.T):
            known = values[np.isfinite(values)]
            typical = np.quantile(known if len(known) else [0.0], [0.5], method="nearest")
            if not column.shape:
                yield _Cell(column, column.name, None, place, self._encode(column, typical)[0])
            else:
                own = slice(place.start + entry, place.start + entry + 1)
                yield _Cell(column, f"{column.name}[{entry}]", entry, own, typical)

    def _encode(self, column: Column, cells: Array) -> Floats:
        count = len(cells)
        rows = Rows({column.name: cells}, np.full(count, -1), np.arange(count).astype(str))
        return np.asarray(self.encoder.transform_column(column.name, rows, self.context), np.float64)

    def explain(self, rows: Rows, scorable: Bools) -> Explanation:
        """Find the reasons of rows; `scorable` is the mask of those that have scores."""
        why: list[list[Reason]] = [[] for _ in range(len(rows))]
        why_ood: list[list[Reason]] = [[] for _ in range(len(rows))]
        nearest = np.full(len(rows), None, dtype=object)
        changes: list[Change | None] | None = [None] * len(rows) if self.changer else None
        places = np.flatnonzero(scorable)
        for part in iterate_batches(len(places), _BATCH_ROWS // 8):
            own = rows.take(places[part])
            features = np.asarray(self.encoder.transform(own, self.context), np.float64)
            x, _ = self.trained.preprocessor.transform_features(torch.from_numpy(features))
            z = encode(self.trained.model, x).z.numpy()
            nearest[places[part]] = self.ids[self.neighbours.kneighbors(z, return_distance=False)[:, 0]]
            log_joint, density = self._measure(features)
            base = log_joint, density, np.argsort(-log_joint, axis=1, kind="stable")[:, :2]
            cells = zip(*self._explain_cells(own, features, base), strict=True)
            for index, (place, (first, second)) in enumerate(zip(places[part].tolist(), cells, strict=True)):
                for column, columns in self.texts:
                    words = self._explain_words(own, features, base, index, column, columns)
                    first, second = first + words[0], second + words[1]
                why[place], why_ood[place] = _sort(first), _sort(second)
            if self.changer and changes is not None:
                for place, change in zip(places[part].tolist(), self.changer.find(own), strict=True):
                    changes[place] = change
        return Explanation(rows.ids, why, why_ood, nearest, changes)

    def _measure(self, features: Floats) -> tuple[Floats, Floats]:
        """Return calibrated log-densities of the classes `(N, K)`, and of the flow's inputs `(N,)`."""
        x, _ = self.trained.preprocessor.transform_features(torch.from_numpy(features))
        latents = encode(self.trained.model, x)
        temperature = float(self.trained.model.temperature)
        log_joint = latents.class_log_prob.double().numpy() / temperature
        return log_joint, latents.log_prob().double().numpy()

    def _explain_cells(
        self, rows: Rows, features: Floats, base: tuple[Floats, Floats, Ints]
    ) -> tuple[list[list[Reason]], list[list[Reason]]]:
        """Replace cells of rows by others, with the measures of the rows as they are."""
        from scipy.spatial.distance import cdist

        _, density, _ = base
        why: list[list[Reason]] = [[] for _ in range(len(rows))]
        why_ood: list[list[Reason]] = [[] for _ in range(len(rows))]
        chosen = self._choose_cells(features, base)
        scaled, others = features / self.spread, self.features / self.spread
        distances = cdist(scaled, others, "sqeuclidean") if self.cells else np.empty((0, 0))
        for number, cell in enumerate(self.cells):
            places = np.flatnonzero(chosen[:, number])
            if not len(places):
                continue
            own = cdist(scaled[places, cell.place], others[:, cell.place], "sqeuclidean")
            last = min(_SIMILAR, len(others)) - 1
            similar = np.argpartition(distances[places] - own, last, axis=1)[:, : last + 1]
            values = self.features[similar][:, :, cell.place]
            values = np.concatenate([np.broadcast_to(cell.features, values[:, :1].shape), values], axis=1)
            count = values.shape[1]
            effects, densities = [], []
            for part in iterate_batches(len(places) * count, _BATCH_ROWS):
                index, value = np.divmod(np.arange(part.start, part.stop), count)
                changed = features[places[index]]
                changed[:, cell.place] = values[index, value]
                loss, new = self._compare(changed, places[index], base)
                effects.append(loss)
                densities.append(new)
            losses = np.concatenate(effects).reshape(-1, count)[:, 0]
            by_value = np.concatenate(densities).reshape(-1, count)[:, 1:]
            gains = np.logaddexp.reduce(by_value, axis=1) - np.log(count - 1) - density[places]
            best = np.take_along_axis(similar, by_value.argmax(1)[:, None], 1)[:, 0].tolist()
            for place, loss, gain, usual in zip(places.tolist(), losses, gains, best, strict=True):
                text = cell.describe(rows, place)
                why[place].append(Reason(cell.name, text, float(loss)))
                why_ood[place].append(
                    Reason(cell.name, text, float(gain), cell.describe(self.similar, usual))
                )
        return why, why_ood

    def _compare(
        self, changed: Floats, places: Ints, base: tuple[Floats, Floats, Ints]
    ) -> tuple[Floats, Floats]:
        """Return the loss of log-odds of changed rows, whose originals are at `places`, and their density."""
        log_joint, _, top = base
        new, density = self._measure(changed)
        pair = top[places]
        if pair.shape[1] < 2:
            return np.zeros(len(places)), density
        odds = [np.take_along_axis(values, pair, 1) for values in (log_joint[places], new)]
        before, after = (values[:, 0] - values[:, 1] for values in odds)
        return before - after, density

    def _choose_cells(self, features: Floats, base: tuple[Floats, Floats, Ints]) -> Bools:
        """Return a mask of the cells to replace `(N, cells)`: all, or those of large gradients."""
        chosen = np.ones((len(features), len(self.cells)), dtype=bool)
        if len(self.cells) <= _MOST_CELLS:
            return chosen
        gradients = self._gradients(features, base[2])
        size = np.zeros((len(gradients), *chosen.shape))
        for number, cell in enumerate(self.cells):
            distance = features[:, cell.place] - cell.features
            size[:, :, number] = np.abs((gradients[:, :, cell.place] * distance).sum(2))
        chosen[:] = False
        for values in size:
            largest = np.argpartition(-values, _MOST_CELLS // 2, axis=1)[:, : _MOST_CELLS // 2]
            np.put_along_axis(chosen, largest, values=True, axis=1)
        return chosen

    def _gradients(self, features: Floats, top: Ints) -> Floats:
        """Return the gradients of the log-odds and of the log-density by the features, `(2, N, F)`."""
        leaf = torch.from_numpy(features).requires_grad_()
        x, _ = self.trained.preprocessor.transforms(leaf)
        device = self.trained.model.temperature.device
        latents = self.trained.model(x.float().to(device))
        joint = torch.gather(latents.class_log_prob, 1, torch.from_numpy(top).to(device))
        odds: Tensor = joint[:, 0] - joint[:, -1]
        parts = [
            torch.autograd.grad(value.sum(), leaf, retain_graph=True)[0]
            for value in (odds, latents.log_prob())
        ]
        return torch.stack(parts).numpy()

    def _explain_words(
        self,
        rows: Rows,
        features: Floats,
        base: tuple[Floats, Floats, Ints],
        place: int,
        column: Column,
        columns: slice,
    ) -> tuple[list[Reason], list[Reason]]:
        """Leave each word out of a text."""
        text = as_strings(rows.columns[column.name][place : place + 1])[0]
        words = list(dict.fromkeys(word.casefold() for word in _WORD.findall(text)))[:_MOST_WORDS]
        if not words:
            return [], []
        without = [re.sub(rf"\b{re.escape(word)}\b", " ", text, flags=re.IGNORECASE) for word in words]
        changed = np.repeat(features[place : place + 1], len(words), axis=0)
        changed[:, columns] = self._encode(column, np.array(without, dtype=object))
        losses, density = self._compare(changed, np.full(len(words), place), base)
        gains = density - base[1][place]
        pairs = [
            [Reason(f"'{word}'", None, float(effect)) for word, effect in zip(words, effects, strict=True)]
            for effects in (losses, gains)
        ]
        return pairs[0], pairs[1]


def _sort(reasons: list[Reason]) -> list[Reason]:
    """Return the reasons with a positive effect, the largest first."""
    kept = [reason for reason in reasons if reason.effect >= _LEAST_EFFECT]
    return sorted(kept, key=lambda reason: -reason.effect)

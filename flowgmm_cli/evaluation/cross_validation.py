"""Choice of a baseline's settings by cross-validation on the labelled rows, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from flowgmm_cli.data.array_types import FloatArray, IntArray, Ints
from flowgmm_cli.evaluation.metrics import log_probabilities, nll

Index = npt.NDArray[np.intp]
Candidate = TypeVar("Candidate", bound=Hashable)

NO_ROWS: Index = np.empty(0, dtype=np.intp)
MAX_FOLDS = 5
MAX_TUNING_ROWS = 2000  # more labelled rows hardly change the choice and only cost time


@dataclass(frozen=True)
class BaselineData:
    """The training rows of a baseline, and the folds in which its settings are compared."""

    x: npt.NDArray[np.float32]  # training rows `(N, D)`, float32
    labels: Ints  # `(N,)`, -1 where a row is unlabelled
    seed: int  # of everything random
    # probabilities that a search has asked for, by candidate: a second search does not ask again
    predictions: dict[Hashable, FloatArray] = field(default_factory=dict)
    chosen: list[Hashable] = field(default_factory=list)  # results of all searches

    @cached_property
    def labelled(self) -> Index:
        """Positions of the labelled rows."""
        return np.flatnonzero(self.labels >= 0)

    @cached_property
    def unlabelled(self) -> Index:
        """Positions of the unlabelled rows."""
        return np.flatnonzero(self.labels < 0)

    @cached_property
    def variances(self) -> FloatArray:
        """Variances of the features, `(D,)`, at least 1e-12."""
        return np.asarray(np.maximum(self.x.var(0), 1e-12))

    @cached_property
    def variance(self) -> float:
        """Variance of all cells, at least 1e-12."""
        return max(float(self.x.var()), 1e-12)

    @cached_property
    def tuning_rows(self) -> Index:
        """Positions of the labelled rows for the choice of settings: all, or a sample of very many."""
        if len(self.labelled) <= MAX_TUNING_ROWS:
            return self.labelled
        return self.rng().choice(self.labelled, MAX_TUNING_ROWS, replace=False)

    @cached_property
    def splits(self) -> list[tuple[Index, Index]]:
        """Folds as positions (fit on, held out) of labelled rows; empty if every class has a single row."""
        rows = self.tuning_rows
        fold = assign_folds(self.labels[rows], MAX_FOLDS, rng=self.rng())
        return [(rows[fold != k], rows[fold == k]) for k in range(fold.max(initial=-1) + 1)]

    def rng(self) -> np.random.Generator:
        """Return a fresh generator with this seed."""
        return np.random.default_rng(self.seed)

    def search(
        self,
        candidates: Iterable[Candidate],
        predict: Callable[[Candidate], FloatArray],
        default: Candidate,
        *,
        ignore: Index = NO_ROWS,
    ) -> Candidate:
        """Return the candidate with the best cross-validated accuracy, among equals the likeliest.

        `predict` gives probabilities of the held-out rows, `(n, K)`, split after split; it is called once for
        a candidate, which is hashable. The rows at the positions `ignore` do not count. The result is
        `default` if cross-validation is impossible.
        """
        held_out, counted = self._select_held_out(ignore)
        if not counted.any():
            return default
        best, best_score = default, (-1.0, 0.0)
        truth = self.labels[held_out[counted]]
        for candidate in candidates:
            if candidate not in self.predictions:
                self.predictions[candidate] = predict(candidate)
            log_p = log_probabilities(self.predictions[candidate][counted])
            score = (float((log_p.argmax(1) == truth).mean()), -nll(log_p, truth))
            if score > best_score:
                best, best_score = candidate, score
        self.chosen.append(best)
        return best

    def true_probabilities(self, ignore: Index = NO_ROWS) -> FloatArray:
        """Return cross-validated probabilities of the true classes `(n,)` under the last search's choice.

        The rows at the positions `ignore` are left out.
        """
        held_out, counted = self._select_held_out(ignore)
        if not counted.any():
            return np.empty(0)
        p = self.predictions[self.chosen[-1]][counted]
        return np.asarray(p[np.arange(len(p)), self.labels[held_out[counted]]])

    def predict_held_out(self) -> tuple[Index, FloatArray] | None:
        """Return positions and cross-validated probabilities `(n, K)` of rows under the last search's choice.

        None if cross-validation is impossible.
        """
        held_out, counted = self._select_held_out(NO_ROWS)
        return (held_out, self.predictions[self.chosen[-1]]) if counted.any() else None

    def _select_held_out(self, ignore: Index) -> tuple[Index, npt.NDArray[np.bool_]]:
        """Return the positions of held-out rows, split after split, and a mask of those that count."""
        held_out = np.concatenate([NO_ROWS, *(rows for _, rows in self.splits)])
        return held_out, ~np.isin(held_out, ignore)


def assign_folds(labels: IntArray, folds: int, *, rng: np.random.Generator) -> Ints:
    """Give each row a fold number in `0..F-1`, stratified by class; rare classes need not reach every fold.

    F is `folds` or, if smaller, the size of the largest class; all are -1 if that is below 2.
    """
    fold = np.full(len(labels), -1, dtype=np.int64)
    folds = min(folds, int(np.bincount(labels).max(initial=0)))
    if folds < 2:
        return fold
    start = 0
    for k in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == k))
        fold[rows] = (start + np.arange(len(rows))) % folds
        start += len(rows)  # the next class continues at the next fold, so that folds are equally large
    return fold

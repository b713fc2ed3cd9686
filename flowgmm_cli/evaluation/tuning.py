"""Choosing a baseline's settings by cross-validation on the labelled rows, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.metrics import log_probabilities, nll

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
Candidate = TypeVar("Candidate")

MOST_TUNING_ROWS = 2000  # beyond this many labelled rows the choice is settled and only costs time


@dataclass(frozen=True)
class Problem:
    """What every baseline is given.

    Attributes:
        x: training rows `(N, D)`, float32.
        labels: `(N,)`, -1 where a row is unlabelled.
        x_test: `(M, D)`, float32.
        classes: number of classes, K.
        seed: of everything random.
        folds: most folds of the cross-validation.
        chosen: settings that one method has chosen and another takes, by name.
    """

    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    classes: int
    seed: int
    folds: int = 5
    chosen: dict[str, float] = field(default_factory=dict)

    @cached_property
    def labelled(self) -> npt.NDArray[np.intp]:
        """Positions of the labelled rows."""
        return np.flatnonzero(self.labels >= 0)

    @cached_property
    def unlabelled(self) -> npt.NDArray[np.intp]:
        """Positions of the unlabelled rows."""
        return np.flatnonzero(self.labels < 0)

    @cached_property
    def tuning_rows(self) -> npt.NDArray[np.intp]:
        """Positions of the labelled rows that settings are chosen on: all, or a sample of very many."""
        if len(self.labelled) <= MOST_TUNING_ROWS:
            return self.labelled
        return self.rng().choice(self.labelled, MOST_TUNING_ROWS, replace=False)

    @cached_property
    def splits(self) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
        """Folds as positions (fitted on, held out) of labelled rows; none if every class has but one row."""
        rows = self.tuning_rows
        fold = stratified_folds(self.labels[rows], self.folds, rng=self.rng())
        return [(rows[fold != k], rows[fold == k]) for k in range(fold.max(initial=-1) + 1)]

    def rng(self) -> np.random.Generator:
        """A fresh generator of this problem's seed."""
        return np.random.default_rng(self.seed)


def stratified_folds(labels: IntArray, folds: int, *, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Give each row a fold number, each class spread evenly; rare classes need not reach every fold.

    Returns:
        int64 `(N,)`, in `0..F-1` with F = `folds` or, if smaller, the size of the largest class; -1
        everywhere if that is below 2.
    """
    fold = np.full(len(labels), -1, dtype=np.int64)
    folds = min(folds, int(np.bincount(labels).max(initial=0)))
    if folds < 2:
        return fold
    start = 0
    for k in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == k))
        fold[rows] = (start + np.arange(len(rows))) % folds
        start += len(rows)  # the next class goes on where this one ended, so that folds are equally large
    return fold


def choose(
    candidates: Iterable[Candidate],
    predict: Callable[[Candidate], FloatArray],
    problem: Problem,
    *,
    default: Candidate,
) -> Candidate:
    """Return the candidate with the best cross-validated accuracy, of equals the likeliest.

    Args:
        candidates: settings to try.
        predict: probabilities of the held-out rows, `(n, K)`, split after split; see `split_by_split`.
        problem: rows and folds.
        default: what to take where cross-validation is impossible.
    """
    best, best_score = default, (-1.0, 0.0)
    if not problem.splits:
        return default
    truth = problem.labels[np.concatenate([held_out for _, held_out in problem.splits])]
    for candidate in candidates:
        log_p = log_probabilities(predict(candidate))
        score = (float((log_p.argmax(1) == truth).mean()), -nll(log_p, truth))
        if score > best_score:
            best, best_score = candidate, score
    return best


def split_by_split(
    predict: Callable[[Candidate, npt.NDArray[np.intp], npt.NDArray[np.intp]], FloatArray], problem: Problem
) -> Callable[[Candidate], FloatArray]:
    """Turn `predict(candidate, fitted_on, held_out)` into what `choose` asks for."""

    def held_out(candidate: Candidate) -> FloatArray:
        return np.concatenate([predict(candidate, *split) for split in problem.splits])

    return held_out

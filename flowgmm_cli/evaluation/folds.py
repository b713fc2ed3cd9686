"""Folds of the labelled rows, and predictions of models for the labels that they have not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.cross_validation import assign_folds
from flowgmm_cli.seeds import derive_seed

Labels = npt.NDArray[np.int64]
LogJoint = npt.NDArray[np.floating[Any]]  # class log-densities, float32 as a model computes them
_MAX_SAMPLE_ROWS = 2000
_MAX_ENTRIES = 2**25  # rows * classes of a table


@dataclass(frozen=True)
class Fold:
    """Labels that a training may use, `(N,)`, -1 for all others, and positions of the rows it predicts."""

    visible: Labels
    held_out: npt.NDArray[np.intp]


def split_labelled(
    labels: Labels, folds: int, *, seed: int, known: npt.NDArray[np.bool_] | None = None
) -> list[Fold]:
    """Split the labelled rows into stratified folds.

    Rows of the mask `known` `(N,)`, whose labels a model has seen before, are never held out. Nor is the only
    row of its class, so that every fold has all classes. There are fewer folds if no class has so many rows,
    and none if every class has a single row. With thousands of classes a sample of the rows is held out, for
    a table of all rows and classes would not fit into memory.
    """
    rows, rng = np.flatnonzero(labels >= 0), np.random.default_rng(derive_seed(seed, "folds"))
    counts = np.bincount(labels[rows], minlength=1)
    movable = rows[counts[labels[rows]] > 1]
    if known is not None:
        movable = movable[~known[movable]]
    if len(movable) > (most := _MAX_ENTRIES // len(counts)):
        movable = np.sort(rng.choice(movable, most, replace=False))
    number = assign_folds(labels[movable], folds, rng=rng)
    result = []
    for index in range(number.max(initial=-1) + 1):
        held_out = movable[number == index]
        visible = labels.copy()
        visible[held_out] = -1
        result.append(Fold(visible, held_out))
    return result


@dataclass(frozen=True)
class OutOfFold:
    """Class log-densities of rows whose labels a model has not seen.

    Attributes:
        log_joint: of labelled rows, `(n, K)`, each under the model of its fold.
        labels: true classes `(n,)`.
        rows: positions among the training rows `(n,)`.
        folds: number of the fold that held out the row `(n,)`.
        unlabelled: of the same unlabelled rows under every model, `(models, m, K)`; m may be 0.
        p_unknown: probability of an unknown kind for the labelled rows, `(n,)`.
    """

    log_joint: LogJoint
    labels: Labels
    rows: npt.NDArray[np.int64]
    folds: npt.NDArray[np.int64]
    unlabelled: LogJoint
    p_unknown: npt.NDArray[np.float64]


def sample_unlabelled(labels: Labels) -> npt.NDArray[np.intp]:
    """Return positions of evenly spaced unlabelled rows, enough to measure a share to a percent.

    With thousands of classes they are fewer, see `split_labelled`.
    """
    rows = np.flatnonzero(labels < 0)
    most = min(_MAX_SAMPLE_ROWS, _MAX_ENTRIES // (4 * int(labels.max(initial=0) + 1)))
    return rows[:: -(-len(rows) // most) or 1]

"""Folds of the labelled rows, for trainings that must not see some of the labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flowgmm_cli.evaluation.cross_validation import assign_folds
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.seeds import derive_seed


@dataclass(frozen=True)
class Fold:
    """One training of a cross-validation.

    Attributes:
        visible: labels of the training rows `(N,)` that it may see, -1 elsewhere.
        held_out: positions of the labelled rows whose label it does not see.
    """

    visible: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.intp]


def labelled_folds(labels: npt.NDArray[np.int64], folds: int, *, seed: int) -> list[Fold]:
    """Divide the labelled rows, each class spread evenly.

    The only row of its class is never held out, or a fold would have no such class.

    Args:
        labels: visible labels of the training rows `(N,)`, -1 where there is none.
        folds: how many; fewer where no class has so many rows.
        seed: of the run.

    Returns:
        None at all if every class has but one row.
    """
    rows = np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[rows])
    movable = rows[counts[labels[rows]] > 1]
    number = assign_folds(labels[movable], folds, rng=np.random.default_rng(derive_seed(seed, "folds")))
    found = []
    for index in range(number.max(initial=-1) + 1):
        held_out = movable[number == index]
        visible = labels.copy()
        visible[held_out] = -1
        found.append(Fold(visible, held_out))
    return found


def shorter(train: TrainConfig, share: float) -> TrainConfig:
    """The same training with a share of its epochs and steps, at least one."""
    limit = train.max_steps
    return train.model_copy(
        update={
            "epochs": max(1, math.ceil(share * train.epochs)),
            "max_steps": limit and max(1, math.ceil(share * limit)),
        }
    )

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.calibration import split_labelled
from flowgmm_cli.training.fit_job import shorten


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=60), st.integers(2, 6), st.integers(0, 99))
def test_each_label_is_held_out_once_and_no_class_is_lost(labels: list[int], folds: int, seed: int) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    result = split_labelled(given_labels, folds, seed=seed)
    held_out = [int(row) for fold in result for row in fold.held_out]
    counts = np.bincount(given_labels[given_labels >= 0], minlength=4)
    movable = {row for row, label in enumerate(labels) if label >= 0 and counts[label] > 1}
    assert len(held_out) == len(set(held_out))
    assert set(held_out) == movable
    for fold in result:
        assert (fold.visible[fold.held_out] == -1).all()
        rest = np.delete(np.arange(len(labels)), fold.held_out)
        assert (fold.visible[rest] == given_labels[rest]).all()
        assert set(fold.visible[fold.visible >= 0]) == set(given_labels[given_labels >= 0])


def test_folds_depend_on_the_seed_alone() -> None:
    labels = np.arange(40) % 3
    same = [split_labelled(labels, 4, seed=seed) for seed in (1, 1, 2)]
    assert [list(fold.held_out) for fold in same[0]] == [list(fold.held_out) for fold in same[1]]
    assert [list(fold.held_out) for fold in same[0]] != [list(fold.held_out) for fold in same[2]]


@pytest.mark.parametrize(
    ("epochs", "steps", "share", "expected"),
    [(20, None, 0.5, (10, None)), (5, 7, 0.3, (2, 3)), (1, 1, 0.01, (1, 1)), (3, 100, 1.0, (3, 100))],
)
def test_a_shorter_training_takes_a_share_of_epochs_and_steps(
    epochs: int, steps: int | None, share: float, expected: tuple[int, int | None]
) -> None:
    result = shorten(TrainConfig(epochs=epochs, max_steps=steps), share)
    assert (result.epochs, result.max_steps) == expected

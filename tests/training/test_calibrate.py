from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import fit_temperature
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.training.calibrate import Calibration, calibrate, fold_epochs

Labels = npt.NDArray[np.int64]


def latents(labels: npt.NDArray[Any], *, classes: int = 3, seed: int = 0) -> Latents:
    """Log-densities that favour the right class, but not always."""
    scores = np.random.default_rng(seed).normal(size=(len(labels), classes)) * 3
    scores[np.arange(len(labels)), labels] += 4
    scores = torch.from_numpy(scores)
    return Latents(scores, scores[:, 0], scores)


class Folds:
    """Stands for the trainings of the folds and remembers what each was shown."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.visible: list[Labels] = []
        self.asked: list[npt.NDArray[np.intp]] = []

    def train(self, visible: Labels, index: int, what: str) -> Any:
        assert index == len(self.visible)
        assert f"fold {index + 1} of" in what
        self.visible.append(visible.copy())
        return index

    def see(self, model: Any, rows: npt.NDArray[np.intp]) -> Latents:
        assert model == len(self.asked)
        self.asked.append(rows)
        return latents(self.labels[rows], seed=model)


def labels_of(*counts: int, unlabelled: int = 30, seed: int = 0) -> Labels:
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(unlabelled, -1)])
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def run(
    labels: Labels, *, val: tuple[Latents, Labels] | None = None, seed: int = 0, **config: object
) -> tuple[Calibration, Folds]:
    folds = Folds(labels)
    found = calibrate(
        CalibrationConfig.model_validate(config),
        val=val,
        labels=labels,
        temperature=7.0,
        train_fold=folds.train,
        see=folds.see,
        seed=seed,
    )
    return found, folds


@pytest.mark.parametrize("counts", [(5, 5, 5), (4, 4, 2), (1, 9, 4), (2, 2, 20), (3, 1, 11)])
@pytest.mark.parametrize("folds", [2, 4, 10])
def test_each_label_is_hidden_once_and_no_fold_loses_a_class(counts: tuple[int, ...], folds: int) -> None:
    labels = labels_of(*counts)
    found, trained = run(labels, folds=folds)
    assert found.method == "cross_fit"
    assert 2 <= len(trained.visible) <= folds
    for visible, asked in zip(trained.visible, trained.asked, strict=True):
        assert (visible[asked] == -1).all()  # what is predicted was not shown
        shown = visible >= 0
        assert (visible[shown] == labels[shown]).all()
        assert set(np.flatnonzero((labels >= 0) & ~shown)) == set(asked)
        assert set(visible[shown]) == set(range(len(counts)))
    every = np.concatenate(trained.asked)
    movable = [row for row in np.flatnonzero(labels >= 0) if counts[labels[row]] > 1]
    assert sorted(every) == movable
    assert found.rows == len(movable)


def test_the_temperature_is_fitted_on_the_pooled_predictions_of_hidden_labels() -> None:
    labels = labels_of(8, 8, 8)
    found, trained = run(labels, folds=3)
    scores = [latents(labels[rows], seed=k).class_log_prob.numpy() for k, rows in enumerate(trained.asked)]
    truth = labels[np.concatenate(trained.asked)]
    assert found.temperature == fit_temperature(np.concatenate(scores), truth)
    assert found.accuracy == pytest.approx((np.concatenate(scores).argmax(1) == truth).mean())


def test_folds_are_fixed_by_the_seed() -> None:
    labels = labels_of(8, 8, 8)
    first, again, other = (run(labels, seed=seed)[1].asked[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("counts", [(3, 3, 3), (1, 1, 1), (9, 1, 1), (1,) * 40])
def test_with_too_few_labels_nothing_is_trained_and_the_temperature_is_that_of_training(
    counts: tuple[int, ...],
) -> None:
    found, trained = run(labels_of(*counts))
    assert found == Calibration(7.0, "training")
    assert trained.visible == []


def validation(labelled: int) -> tuple[Latents, Labels]:
    labels = labels_of(labelled // 2, labelled - labelled // 2, unlabelled=40, seed=1)
    return latents(np.where(labels < 0, 0, labels), seed=2), labels


def test_validation_labels_are_preferred_and_rows_without_one_left_out() -> None:
    val = validation(20)
    found, trained = run(labels_of(8, 8, 8), val=val)
    assert (found.method, found.rows, trained.visible) == ("val", 20, [])
    seen = val[1] >= 0
    assert found.temperature == fit_temperature(val[0].class_log_prob.numpy()[seen], val[1][seen])


def test_validation_labels_that_are_too_few_give_way_to_the_folds() -> None:
    assert run(labels_of(8, 8, 8), val=validation(9))[0].method == "cross_fit"
    assert run(labels_of(3, 3), val=validation(9))[0] == Calibration(7.0, "training")
    assert run(labels_of(8, 8, 8), val=validation(9), on="val")[0] == Calibration(7.0, "training")


def test_the_recipe_can_choose_the_rows_or_do_without() -> None:
    labels = labels_of(8, 8, 8)
    assert run(labels, val=validation(20), on="cross_fit")[0].method == "cross_fit"
    assert run(labels, val=validation(20), on="val")[0].method == "val"
    found, trained = run(labels, val=validation(20), method="none")
    assert found == Calibration(1.0, "none")
    assert trained.visible == []
    with pytest.raises(RecipeError, match="no labelled validation split"):
        run(labels, on="val")


@pytest.mark.parametrize(
    ("share", "epochs", "expected"), [(0.5, 20, 10), (0.3, 1, 1), (0.3, 11, 4), (1.0, 5, 5)]
)
def test_a_fold_trains_for_a_share_of_the_epochs(share: float, epochs: int, expected: int) -> None:
    assert fold_epochs(CalibrationConfig(epochs=share), epochs) == expected

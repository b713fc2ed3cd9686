from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import (
    fit_temperature,
    fit_temperature_and_noise,
)
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig
from flowgmm_cli.training.calibration import Calibration, Fold, OutOfFold, calibrate, sample_unlabelled

Labels = npt.NDArray[np.int64]
SURER = 3.0


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

    def train(self, folds: Sequence[Fold]) -> list[Any]:
        self.visible = [fold.visible.copy() for fold in folds]
        return list(range(len(folds)))

    def encode(self, model: Any, rows: npt.NDArray[np.intp]) -> Latents:
        """Fold k is as sure as any, the calibrated model `SURER` times as sure of unlabelled rows."""
        if (self.labels[rows] < 0).all():
            surer = SURER if model == "whole" else 1
            seen = latents(np.zeros(len(rows), dtype=np.int64), seed=99)
            return Latents(seen.z, seen.log_det, surer * seen.class_log_prob)
        assert model == len(self.asked)
        self.asked.append(rows)
        return latents(self.labels[rows], seed=model)


def labels_of(*counts: int, unlabelled: int = 30, seed: int = 0) -> Labels:
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(unlabelled, -1)])
    return np.random.default_rng(seed).permutation(labels).astype(np.int64)


def run(
    labels: Labels,
    *,
    val: tuple[Latents, Labels] | None = None,
    seed: int = 0,
    held_out: OutOfFold | None = None,
    **config: object,
) -> tuple[Calibration, Folds]:
    folds = Folds(labels)
    result = calibrate(
        CalibrationConfig.model_validate({"noise": False, **config}),
        val=val,
        labels=labels,
        temperature=7.0,
        train_folds=folds.train,
        encode=folds.encode,
        model=cast(Model, "whole"),
        seed=seed,
        out_of_fold=held_out,
    )
    return result, folds


@pytest.mark.parametrize("counts", [(5, 5, 5), (4, 4, 2), (1, 9, 4), (2, 2, 20), (3, 1, 11)])
@pytest.mark.parametrize("folds", [2, 4, 10])
def test_each_label_is_hidden_once_and_no_fold_loses_a_class(counts: tuple[int, ...], folds: int) -> None:
    labels = labels_of(*counts)
    result, trained = run(labels, folds=folds)
    assert result.method == "cross_fit"
    assert 2 <= len(trained.visible) <= folds
    for visible, requests in zip(trained.visible, trained.asked, strict=True):
        assert (visible[requests] == -1).all()  # what is predicted was not shown
        shown = visible >= 0
        assert (visible[shown] == labels[shown]).all()
        assert set(np.flatnonzero((labels >= 0) & ~shown)) == set(requests)
        assert set(visible[shown]) == set(range(len(counts)))
    every = np.concatenate(trained.asked)
    movable = [row for row in np.flatnonzero(labels >= 0) if counts[labels[row]] > 1]
    assert sorted(every) == movable
    assert result.rows == len(movable)


def test_the_temperature_is_fitted_on_the_pooled_predictions_of_hidden_labels() -> None:
    labels = labels_of(8, 8, 8)
    result, trained = run(labels, folds=3)
    scores = [latents(labels[rows], seed=k).class_log_prob.numpy() for k, rows in enumerate(trained.asked)]
    truth = labels[np.concatenate(trained.asked)]
    of_the_folds = fit_temperature(np.concatenate(scores), truth)
    # The model is SURER times as sure of the same rows: so much higher is its temperature.
    assert result.temperature == pytest.approx(SURER * of_the_folds)
    assert result.accuracy == pytest.approx((np.concatenate(scores).argmax(1) == truth).mean())


def test_folds_are_fixed_by_the_seed() -> None:
    labels = labels_of(8, 8, 8)
    first, again, other = (run(labels, seed=seed)[1].asked[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("counts", [(3, 3, 3), (1, 1, 1), (9, 1, 1), (1,) * 40])
def test_with_too_few_labels_nothing_is_trained_and_the_temperature_is_that_of_training(
    counts: tuple[int, ...],
) -> None:
    result, trained = run(labels_of(*counts))
    assert result == Calibration(7.0, "training")
    assert trained.visible == []


def validation(labelled: int) -> tuple[Latents, Labels]:
    labels = labels_of(labelled // 2, labelled - labelled // 2, unlabelled=40, seed=1)
    return latents(np.where(labels < 0, 0, labels), seed=2), labels


def test_validation_labels_are_preferred_and_rows_without_one_left_out() -> None:
    val = validation(20)
    result, trained = run(labels_of(8, 8, 8), val=val)
    assert (result.method, result.rows, trained.visible) == ("val", 20, [])
    seen = val[1] >= 0
    assert result.temperature == fit_temperature(val[0].class_log_prob.numpy()[seen], val[1][seen])


def test_validation_labels_that_are_too_few_give_way_to_the_folds() -> None:
    assert run(labels_of(8, 8, 8), val=validation(9))[0].method == "cross_fit"
    assert run(labels_of(3, 3), val=validation(9))[0] == Calibration(7.0, "training")
    assert run(labels_of(8, 8, 8), val=validation(9), on="val")[0] == Calibration(7.0, "training")


def test_the_recipe_can_choose_the_rows_or_do_without() -> None:
    labels = labels_of(8, 8, 8)
    assert run(labels, val=validation(20), on="cross_fit")[0].method == "cross_fit"
    assert run(labels, val=validation(20), on="val")[0].method == "val"
    result, trained = run(labels, val=validation(20), method="none")
    assert result == Calibration(1.0, "none")
    assert trained.visible == []
    with pytest.raises(RecipeError, match="no labelled validation split"):
        run(labels, on="val")


def test_without_unlabelled_rows_the_folds_temperature_is_taken_as_it_is() -> None:
    labels = labels_of(8, 8, 8, unlabelled=0)
    result, trained = run(labels, folds=3)
    scores = [latents(labels[rows], seed=k).class_log_prob.numpy() for k, rows in enumerate(trained.asked)]
    assert result.temperature == fit_temperature(
        np.concatenate(scores), labels[np.concatenate(trained.asked)]
    )


def test_folds_that_a_search_has_trained_are_not_trained_again() -> None:
    labels = labels_of(8, 8, 8)
    rows = np.flatnonzero(labels >= 0)
    said = latents(labels[rows]).class_log_prob.numpy()
    elsewhere = latents(np.zeros(30, dtype=np.int64), seed=99).class_log_prob.numpy()
    result, trained = run(labels, held_out=OutOfFold(said, labels[rows], elsewhere[None]))
    assert trained.visible == []
    assert (result.method, result.rows) == ("cross_fit", 24)
    assert result.temperature == pytest.approx(SURER * fit_temperature(said, labels[rows]))


def test_the_sample_of_unlabelled_rows_is_spread_evenly() -> None:
    labels = np.where(np.arange(9000) % 9 == 0, 1, -1)
    result = sample_unlabelled(labels)
    assert (labels[result] < 0).all()
    assert 1000 < len(result) <= 2000
    assert result[0] < 10
    assert result[-1] > 8980
    assert len(sample_unlabelled(np.ones(5, dtype=np.int64))) == 0


def test_noise_is_fitted_where_the_recipe_does_not_say_otherwise() -> None:
    labels = labels_of(8, 8, 8, unlabelled=0)
    result, trained = run(labels, folds=3, noise=True)
    scores = [latents(labels[rows], seed=k).class_log_prob.numpy() for k, rows in enumerate(trained.asked)]
    expected = fit_temperature_and_noise(np.concatenate(scores), labels[np.concatenate(trained.asked)])
    assert (result.temperature, result.noise) == expected
    assert result.noise > 0
    assert CalibrationConfig().noise


def test_labels_that_cannot_be_told_make_a_calibration_uninformative() -> None:
    labels = labels_of(20, 20, 20)
    told, _ = run(labels, noise=True)
    assert told.informative
    assert told.frequency_nll == pytest.approx(np.log(3))
    rows = np.flatnonzero(labels >= 0)
    blind = latents(np.random.default_rng(5).permutation(labels[rows])).class_log_prob.numpy()
    unlabelled = latents(np.zeros(30, dtype=np.int64), seed=99).class_log_prob.numpy()[None]
    for noise in (True, False):
        assert not run(labels, held_out=OutOfFold(blind, labels[rows], unlabelled), noise=noise)[
            0
        ].informative
    assert Calibration(1.0, "none").informative

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.evaluation.calibration import fit_temperature, fit_temperature_and_noise
from flowgmm_cli.evaluation.folds import Fold, OutOfFold, sample_unlabelled, split_labelled
from flowgmm_cli.evaluation.temperature import Calibration, calibrate_folds, fit_calibration
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import CalibrationConfig, TrainConfig
from flowgmm_cli.training.calibration import calibrate
from flowgmm_cli.training.fit_job import shorten

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


def out_of_fold(
    log_joint: npt.NDArray[np.float64], labels: Labels, unlabelled: npt.NDArray[np.float64]
) -> OutOfFold:
    """Predictions for all labelled rows, in 3 folds."""
    rows = np.flatnonzero(labels >= 0)
    p_unknown = np.zeros(len(rows))
    return OutOfFold(log_joint, labels[rows], rows, np.arange(len(rows)) % 3, unlabelled, p_unknown)


def pooled(folds: Folds) -> tuple[npt.NDArray[np.float64], Labels]:
    """Predictions of all folds for the rows they were asked for, and the true labels."""
    scores = [
        latents(folds.labels[rows], seed=k).class_log_prob.numpy() for k, rows in enumerate(folds.asked)
    ]
    return np.concatenate(scores), folds.labels[np.concatenate(folds.asked)]


@pytest.mark.parametrize("counts", [(5, 5, 5), (1, 9, 4), (3, 1, 11)])
def test_each_fold_predicts_labels_that_it_was_not_shown(counts: tuple[int, ...]) -> None:
    labels = labels_of(*counts)
    result, trained = run(labels, folds=4)
    assert result.method == "cross_fit"
    assert 2 <= len(trained.visible) <= 4
    for visible, rows in zip(trained.visible, trained.asked, strict=True):
        assert (visible[rows] == -1).all()
        assert set(np.flatnonzero((labels >= 0) & (visible < 0))) == set(rows)
    assert result.rows == sum(count for count in counts if count > 1)


def test_the_temperature_is_fitted_on_the_pooled_predictions_of_hidden_labels() -> None:
    result, trained = run(labels_of(8, 8, 8), folds=3)
    scores, truth = pooled(trained)
    # The model is SURER times as sure of the same rows: so much higher is its temperature.
    assert result.temperature == pytest.approx(SURER * fit_temperature(scores, truth))
    assert result.accuracy == pytest.approx((scores.argmax(1) == truth).mean())


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


def test_without_unlabelled_rows_the_folds_temperature_and_noise_are_taken_as_they_are() -> None:
    labels = labels_of(8, 8, 8, unlabelled=0)
    result, trained = run(labels, folds=3)
    assert (result.temperature, result.noise) == (fit_temperature(*pooled(trained)), 0)
    result, trained = run(labels, folds=3, noise=True)
    assert (result.temperature, result.noise) == fit_temperature_and_noise(*pooled(trained))
    assert result.noise > 0
    assert CalibrationConfig().noise


def test_folds_that_a_search_has_trained_are_not_trained_again() -> None:
    labels = labels_of(8, 8, 8)
    rows = np.flatnonzero(labels >= 0)
    said = latents(labels[rows]).class_log_prob.numpy()
    elsewhere = latents(np.zeros(30, dtype=np.int64), seed=99).class_log_prob.numpy()
    result, trained = run(labels, held_out=out_of_fold(said, labels, elsewhere[None]))
    assert trained.visible == []
    assert (result.method, result.rows) == ("cross_fit", 24)
    assert result.temperature == pytest.approx(SURER * fit_temperature(said, labels[rows]))


@pytest.mark.parametrize("noise", [True, False])
def test_a_fold_is_calibrated_on_the_labels_of_the_others(noise: bool) -> None:
    labels = labels_of(20, 20, 20)
    scores = latents(labels[labels >= 0]).class_log_prob.numpy()
    held_out = out_of_fold(scores, labels, np.empty((3, 0, 3)))
    config = CalibrationConfig(noise=noise)
    result = calibrate_folds(config, held_out, temperature=7.0)
    for fold in range(3):
        own = held_out.folds == fold
        temperature, share = fit_temperature(scores[~own], held_out.labels[~own]), 0.0
        if noise:
            temperature, share = fit_temperature_and_noise(scores[~own], held_out.labels[~own])
        expected = (1 - share) * softmax(scores[own] / temperature, axis=1) + share / 3
        np.testing.assert_allclose(np.exp(result[own]), expected)
        flipped = np.where(own, (held_out.labels + 1) % 3, held_out.labels)
        again = calibrate_folds(config, replace(held_out, labels=flipped), temperature=7.0)
        np.testing.assert_array_equal(again[own], result[own])


@pytest.mark.parametrize(("method", "temperature"), [("none", 1.0), ("temperature", 7.0)])
def test_folds_of_few_labels_have_the_temperature_of_training(method: str, temperature: float) -> None:
    labels = labels_of(4, 4)
    scores = latents(labels[labels >= 0], classes=2).class_log_prob.numpy()
    config = CalibrationConfig.model_validate({"method": method})
    rows = out_of_fold(scores, labels, np.empty((3, 0, 2)))
    result = calibrate_folds(config, rows, temperature=7.0)
    np.testing.assert_allclose(np.exp(result), softmax(scores / temperature, axis=1))


def test_the_sample_of_unlabelled_rows_is_spread_evenly() -> None:
    labels = np.where(np.arange(9000) % 9 == 0, 1, -1)
    result = sample_unlabelled(labels)
    assert (labels[result] < 0).all()
    assert 1000 < len(result) <= 2000
    assert result[0] < 10
    assert result[-1] > 8980
    assert len(sample_unlabelled(np.ones(5, dtype=np.int64))) == 0


def test_validation_labels_of_one_class_are_not_fitted_to() -> None:
    labels = np.ones(30, dtype=np.int64)
    assert run(labels_of(8, 8, 8), val=(latents(labels), labels))[0].method == "cross_fit"


def test_labels_that_cannot_be_told_make_a_calibration_uninformative() -> None:
    labels = labels_of(20, 20, 20)
    told, _ = run(labels, noise=True)
    assert told.informative
    assert told.frequency_nll == pytest.approx(np.log(3))
    rows = np.flatnonzero(labels >= 0)
    blind = latents(np.random.default_rng(5).permutation(labels[rows])).class_log_prob.numpy()
    unlabelled = latents(np.zeros(30, dtype=np.int64), seed=99).class_log_prob.numpy()[None]
    held_out = out_of_fold(blind, labels, unlabelled)
    for noise in (True, False):
        assert not run(labels, held_out=held_out, noise=noise)[0].informative
    assert Calibration(1.0, "none").informative


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


@pytest.mark.parametrize("classes", [10, 3000])
def test_tables_of_rows_and_classes_have_a_limit(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    monkeypatch.setattr("flowgmm_cli.evaluation.folds._MAX_ENTRIES", 2**21)
    labels = np.append(np.arange(9000) % classes, np.full(5000, -1))
    result = split_labelled(labels, 4, seed=0)
    held_out = np.concatenate([fold.held_out for fold in result])
    assert len(set(held_out.tolist())) == len(held_out) == min(9000, 2**21 // classes)
    for fold in result:  # labels of rows beyond the limit are never hidden
        np.testing.assert_array_equal(np.flatnonzero(fold.visible != labels), np.sort(fold.held_out))
        assert len(np.unique(fold.visible)) == 1 + classes
    assert len(sample_unlabelled(labels)) <= min(2000, 2**21 // (4 * classes))


@pytest.mark.slow
def test_a_calibration_keeps_no_second_table_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm_cli.evaluation.calibration._LARGE_BLOCK", 2**18)
    rows = np.arange(6000)
    labels = rows % 1000
    scores = np.random.default_rng(0).normal(size=(6000, 1000)).astype(np.float32)
    scores[rows, labels] += 4
    table = OutOfFold(scores, labels, rows, rows % 3, np.empty((1, 0, 1000)), np.empty((6000, 0)))
    config = CalibrationConfig(noise=False)
    run(labels_of(8, 8, 8))  # imports
    tracemalloc.start()
    try:
        assert fit_calibration(config, scores, labels, "cross_fit", 1.0, with_likelihoods=True).likelihoods
        assert tracemalloc.get_traced_memory()[1] < scores.nbytes
        tracemalloc.reset_peak()
        result = calibrate_folds(config, table, temperature=1.0)
        assert result.dtype == np.float64
        assert tracemalloc.get_traced_memory()[1] < result.nbytes + 2 * scores.nbytes
    finally:
        tracemalloc.stop()


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

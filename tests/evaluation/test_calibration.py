from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.calibration import calibration_curve

from flowgmm_cli.evaluation.calibration import (
    calibration_error,
    fit_class_bias,
    fit_temperature,
    fit_temperature_and_noise,
    margin_scale,
    reliability_table,
    temper_true_classes,
)
from flowgmm_cli.evaluation.folds import OutOfFold
from flowgmm_cli.evaluation.temperature import calibrate_folds, fit_calibration
from flowgmm_cli.recipe.schema import CalibrationConfig


def logits(
    n: int, *, true_temperature: float, seed: int = 0, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated logits times `true_temperature`, and labels drawn from the calibrated probabilities."""
    rng = np.random.default_rng(seed)
    calibrated = 2 * rng.normal(size=(n, classes))
    labels = (calibrated + rng.gumbel(size=(n, classes))).argmax(1)
    return true_temperature * calibrated, labels


def loss(scores: np.ndarray, labels: np.ndarray, log_temperature: float, pseudo_rows: float = 1.0) -> float:
    log_p = log_softmax(scores / np.exp(log_temperature), axis=1)
    truth = -log_p[np.arange(len(labels)), labels].sum()
    return float(truth - pseudo_rows * log_p.mean())


@pytest.mark.parametrize("n", [3, 30, 300])
@pytest.mark.parametrize("true_temperature", [0.3, 20.0, 2000.0])
def test_it_is_the_minimum_that_scipy_finds(n: int, true_temperature: float) -> None:
    scores, labels = logits(n, true_temperature=true_temperature)
    expected = minimize_scalar(
        lambda t: loss(scores, labels, t), bounds=(-9, 13), method="bounded", options={"xatol": 1e-10}
    )
    assert np.log(fit_temperature(scores, labels)) == pytest.approx(expected.x, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000), n=st.integers(2, 50), factor=st.floats(0.01, 1000), shift=st.floats(-1e4, 1e4)
)
def test_temperature_scales_with_the_densities_and_ignores_shifts(
    seed: int, n: int, factor: float, shift: float
) -> None:
    scores, labels = logits(n, true_temperature=1.0, seed=seed)
    base = fit_temperature(scores, labels)
    if 1e-4 < base < 1e6 and 1e-4 < factor * base < 1e6:
        assert fit_temperature(factor * scores + shift, labels) == pytest.approx(factor * base, rel=1e-4)


@pytest.mark.parametrize("n", [2, 10, 200])
@pytest.mark.parametrize("gap", [1.0, 5000.0])
def test_correct_rows_alone_give_an_error_of_about_1_in_n(n: int, gap: float) -> None:
    labels = np.arange(n) % 2
    scores = gap * np.eye(2)[labels]
    confidence = 1 / (1 + np.exp(-gap / fit_temperature(scores, labels)))
    # a pseudo-row with uniform labels: n + 1 rows of which half a one is wrong
    assert 1 - confidence == pytest.approx(0.5 / (n + 1), rel=1e-6)


def test_the_temperature_stays_within_its_bounds_and_is_1_for_equal_densities() -> None:
    labels = np.arange(100) % 2
    wrong = 50 * np.eye(2)[1 - labels]  # no better than chance
    assert fit_temperature(wrong, labels) == 1e6
    assert fit_temperature(1e-9 * np.eye(2)[labels], labels) == 1e-4
    assert fit_temperature(np.full((100, 3), -700.0), labels) == 1.0


def test_unlabelled_rows_are_left_out() -> None:
    scores, labels = logits(50, true_temperature=5.0)
    more = np.concatenate([scores, np.full((7, 4), np.nan)])
    assert fit_temperature(more, np.concatenate([labels, np.full(7, -1)])) == fit_temperature(scores, labels)


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.zeros((2, 3)), [-1, -1]),
        (np.zeros((0, 3)), []),
        (np.zeros((1, 3)), [3]),
        (np.array([[0.0, np.inf]]), [0]),
        (np.array([[0.0, np.nan]]), [0]),
    ],
)
def test_unsuitable_densities_and_labels_are_refused(scores: np.ndarray, labels: list[int]) -> None:
    with pytest.raises(ValueError, match="need finite log-densities"):
        fit_temperature(scores, np.array(labels, dtype=int))


@given(st.integers(0, 99), st.floats(1e-3, 1e6), st.integers(2, 6))
def test_the_scale_of_margins_is_proportional_to_the_densities_and_ignores_what_rows_share(
    seed: int, factor: float, classes: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(200, classes))
    first_two = np.sort(scores, axis=1)[:, -2:]
    scale = margin_scale(scores)
    assert scale == pytest.approx(np.quantile(first_two[:, 1] - first_two[:, 0], 0.95))
    assert margin_scale(factor * (scores + rng.normal(size=(200, 1)))) == pytest.approx(factor * scale)


def test_the_fit_is_the_optimum_of_the_penalised_likelihood() -> None:
    scores, labels = logits(60, true_temperature=3.0, seed=5)

    def loss(temperature: float, noise: float) -> float:
        log_p = log_softmax(scores / temperature, axis=1)
        p = (1 - noise) * np.exp(log_p[np.arange(60), labels]) + noise / 4
        return float(-np.log(p).sum() - log_p.mean() - 5 * np.log(noise) - 95 * np.log(1 - noise))

    temperature, noise = fit_temperature_and_noise(scores, labels)
    for other in (0.9 * temperature, 1.1 * temperature):
        assert loss(temperature, noise) < loss(other, noise)
    for other in (noise - 0.01, noise + 0.01):
        assert loss(temperature, noise) < loss(temperature, max(other, 1e-4))


def test_a_share_of_wrong_labels_leaves_the_probabilities_of_the_right_classes() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4000, 4)) * 6
    truth = (scores / 3.0 + rng.gumbel(size=scores.shape)).argmax(1)
    wrong = rng.random(4000) < 0.2
    labels = np.where(wrong, (truth + rng.integers(1, 4, 4000)) % 4, truth)
    config = CalibrationConfig()
    fitted = fit_calibration(config, scores, labels, "cross_fit", 1.0, label_noise=0.2)
    assert fitted.temperature == pytest.approx(3.0, rel=0.1)
    assert fitted.noise < 0.03
    plain = fit_calibration(config, scores, labels, "cross_fit", 1.0)
    losses = [
        -temper_true_classes(scores, truth, item.temperature, item.noise).mean() for item in (fitted, plain)
    ]
    best = -log_softmax(scores / 3.0, axis=1)[np.arange(4000), truth].mean()
    assert losses[0] < best + 0.01
    assert losses[1] > best + 0.05
    folds = np.arange(4000) % 2
    table = OutOfFold(scores, labels, np.arange(4000), folds, np.empty((0, 0, 4)), np.empty((4000, 0)))
    log_p = calibrate_folds(config, table, temperature=1.0, label_noise=0.2)
    assert -log_p[np.arange(4000), truth].mean() < best + 0.01


def test_chunks_of_rows_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, labels = logits(100, true_temperature=3.0)
    expected = fit_temperature_and_noise(scores, labels)
    monkeypatch.setattr("flowgmm_cli.evaluation.calibration._BLOCK", 28)
    assert fit_temperature_and_noise(scores, labels) == expected


def test_few_correct_labels_still_leave_some_doubt() -> None:
    scores = 1e4 * np.eye(3)[np.arange(12) % 3]
    temperature, noise = fit_temperature_and_noise(scores, np.arange(12) % 3)
    probabilities = (1 - noise) * softmax(scores / temperature, axis=1) + noise / 3
    assert 0.9 < probabilities.max() < 0.99


def test_class_biases_are_optimal() -> None:
    rng = np.random.default_rng(8)
    scores = 2.0 * rng.normal(size=(50, 4))
    labels = (scores / 2.0 + [0.8, -0.5, 0.0, -0.3] + rng.gumbel(size=scores.shape)).argmax(1)
    labels[:5] = -1

    def negative_log_posterior(values: np.ndarray) -> float:
        p = 0.95 * softmax(np.exp(values[0]) * scores[5:] / 3.0 + values[1:], axis=1) + 0.05 / 4
        return float(-np.log(p[np.arange(45), labels[5:]]).sum() + 5.0 * values @ values / 2)

    temperature, bias = fit_class_bias(scores, labels, noise=0.05, start=3.0)
    best = negative_log_posterior(np.array([np.log(3.0 / temperature), *bias]))
    independent = minimize(
        negative_log_posterior, np.zeros(5), method="Nelder-Mead", options={"maxiter": 5000, "fatol": 1e-9}
    )
    assert best == pytest.approx(independent.fun, abs=1e-4)


def sample(n: int = 1000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.25, 1, n)
    return confidence, rng.random(n) < confidence**2  # over-confident


@pytest.mark.parametrize("bins", [1, 5, 20])
@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_agree_with_scikit_learn(bins: int, binning: Any, strategy: str) -> None:
    confidence, correct = sample()
    table = reliability_table(confidence, correct, bins=bins, binning=binning)
    rows = [row for row in table if row.count]
    accuracy, mean = calibration_curve(correct, confidence, n_bins=bins, strategy=strategy)
    np.testing.assert_allclose([row.accuracy for row in rows], accuracy)
    np.testing.assert_allclose([row.confidence for row in rows], mean)
    expected = sum(row.count * abs(a - m) for row, a, m in zip(rows, accuracy, mean, strict=True)) / 1000
    assert calibration_error(table) == pytest.approx(expected)


def test_bins_have_their_edges_may_be_empty_and_more_than_rows() -> None:
    confidence = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    table = reliability_table(confidence, np.ones(6, bool), bins=5)
    assert [row.count for row in table] == [2, 1, 1, 1, 1]
    assert (table[0].low, table[-1].high) == (0, 1)
    empty = reliability_table(np.array([0.95]), np.array([True]), bins=10)[0]
    assert asdict(empty) == {"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None}
    table = reliability_table(np.array([0.5, 0.7]), np.array([True, False]), bins=15, binning="mass")
    assert [row.count for row in table] == [1, 1]

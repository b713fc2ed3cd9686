"""Sets of classes with a coverage, abstention, and messages about too few labels."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.conformal import HeldOutLabels, risk_coverage
from flowgmm_cli.errors import DataError, UsageError

NAMES = ("a", "b", "c")


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities `(n, 3)` that are calibrated for the drawn labels `(n,)`; class c is rare."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet([0.6, 0.5, 0.1], n)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1)
    return np.log(np.maximum(p, 1e-300)), labels


def held_out(n: int, seed: int) -> HeldOutLabels:
    log_p, labels = draw(n, seed)
    return HeldOutLabels.collect(log_p, labels, np.zeros(n), exact=True)


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_have_the_coverage_on_average_over_draws_of_labels(by_class: bool) -> None:
    log_p, labels = draw(20_000, 0)
    covered = []
    for seed in range(1, 101):
        thresholds = held_out(200, seed).class_thresholds(0.9, NAMES, by_class=by_class)
        own = thresholds.sets(log_p)[np.arange(len(labels)), labels]
        covered.append([own.mean(), *(own[labels == k].mean() for k in range(3))])
    mean = np.mean(covered, axis=0)
    assert mean[0] == pytest.approx(0.9, abs=0.015)
    low, high = thresholds.interval
    inside = [low <= value[0] <= high for value in covered]
    assert by_class or np.mean(inside) > 0.8
    assert (mean[1:] > 0.89).all() == by_class


@pytest.mark.parametrize(("exact", "rank"), [(True, 18), (False, 17)])
def test_a_new_row_counts_as_one_more_beside_rows_of_the_final_model(exact: bool, rank: int) -> None:
    p = np.linspace(0.05, 0.95, 19)[:, None]
    log_p = np.log(np.concatenate([p, 1 - p], axis=1))
    rows = HeldOutLabels.collect(log_p, np.zeros(19, np.int64), np.zeros(19), exact=exact)
    thresholds = rows.class_thresholds(0.88, ("a", "b"), by_class=False)
    assert thresholds.values == pytest.approx([0.05 * (20 - rank)] * 2)
    assert thresholds.interval[0] < rank / 20 < thresholds.interval[1]


def test_too_few_labels_are_an_error_with_the_number_that_is_needed() -> None:
    with pytest.raises(DataError, match="needs 99 labels that the training held out, and there are 50"):
        held_out(50, 0).class_thresholds(0.99, NAMES, by_class=False)
    with pytest.raises(DataError, match="there are 0"):
        HeldOutLabels.concatenate([]).class_thresholds(0.9, NAMES, by_class=False)
    with pytest.raises(DataError, match="needs 99 labels of a class"):
        held_out(100, 0).class_thresholds(0.99, NAMES, by_class=True)
    with pytest.raises(UsageError, match="between 0 and 1"):
        held_out(50, 0).class_thresholds(1.0, NAMES, by_class=False)


def test_a_class_with_too_few_labels_is_in_every_set_and_named() -> None:
    rows = held_out(60, 0)
    thresholds = rows.class_thresholds(0.9, NAMES, by_class=True)
    assert (rows.labels == 2).sum() < 9
    assert thresholds.few == ("c",)
    assert thresholds.values[2] == 0
    assert "needs 9 held-out labels of each" in thresholds.describe_few()
    assert not rows.class_thresholds(0.9, NAMES, by_class=False).describe_few()


def test_rows_without_probabilities_have_an_empty_set() -> None:
    thresholds = held_out(60, 0).class_thresholds(0.9, NAMES, by_class=True)
    assert thresholds.sets(np.full((1, 3), np.nan)).sum() == 0


def test_answered_rows_have_the_confidence_beside_unknown_kinds() -> None:
    p = np.log([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]])
    rows = HeldOutLabels.collect(p, np.array([0, 1, 1]), np.array([0.0, 0.0, 0.5]), exact=False)
    assert rows.count_answers(0.5) == (2, 1)
    assert rows.count_answers(0.2) == (3, 2)
    shares, errors = risk_coverage(rows.confidence, rows.correct)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert errors == pytest.approx([0, 1 / 2, 1 / 3])


def test_a_class_that_is_nearly_certain_is_in_every_set() -> None:
    log_p = np.log(np.stack([np.linspace(0.97, 0.99, 20), np.linspace(0.03, 0.01, 20)], axis=1))
    rows = HeldOutLabels.collect(log_p, np.zeros(20, np.int64), np.zeros(20), exact=False)
    sets = rows.class_thresholds(0.9, ("a", "b"), by_class=False).sets(np.log([[0.95, 0.05], [0.6, 0.4]]))
    assert sets.tolist() == [[True, False], [False, False]]


def test_stored_rows_that_do_not_fit_are_refused() -> None:
    arrays = dict(vars(held_out(20, 0)))
    assert len(HeldOutLabels.restore(arrays, 3)) == 20
    nan = np.full(20, np.nan)
    changed = ("labels", arrays["labels"] + 2), ("p_true", arrays["p_true"][1:]), ("p_true", nan)
    for changes in ({name: value} for name, value in (*changed, ("labels", arrays["p_true"]))):
        with pytest.raises(ValueError, match="do not fit"):
            HeldOutLabels.restore({**arrays, **changes}, 3)
    with pytest.raises(TypeError):
        HeldOutLabels.restore({"labels": arrays["labels"]}, 3)

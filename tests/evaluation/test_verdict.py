"""The verdict on a model beside simple methods, and the test behind it."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.evaluation.intervals import compare_accuracies
from flowgmm_cli.evaluation.verdict import Outcome, judge, max_test

EQUAL = "no difference can be seen: of 100 rows flowgmm is right on 80,"


def outcome(right: int, wrong: int = 0, *, n: int = 100, nll: float = 0.5) -> Outcome:
    """Correct on rows `wrong` to `wrong + right`, with a log loss that varies a little."""
    rows = np.arange(n)
    return Outcome((rows >= wrong) & (rows < wrong + right), nll + 0.01 * (rows % 2))


@pytest.mark.parametrize(
    ("model", "rival", "decided", "text"),
    [
        (outcome(80), outcome(95), True, "kNN is right on 15 rows more of 100 than flowgmm (p < 0.001)"),
        (outcome(95), outcome(80), True, "flowgmm is right on 15 rows more of 100 than kNN (p < 0.001)"),
        (outcome(80), outcome(83), False, f"{EQUAL} kNN on 83 (p = 0.25)"),
        (outcome(80), outcome(80), False, f"{EQUAL} kNN on 80 (p = 1)"),
        (
            outcome(80, nll=0.2),
            outcome(95),
            True,
            "kNN is right on 15 rows more of 100 than flowgmm (p < 0.001); flowgmm has the lower log loss, "
            "0.205 against 0.505",
        ),
    ],
)
def test_a_verdict_names_the_better_one_and_the_lower_log_loss(
    model: Outcome, rival: Outcome, decided: bool, text: str
) -> None:
    best = "knn" if text.startswith("kNN") else "flowgmm"
    verdict = judge(model, {"knn": rival})
    assert (verdict.best, verdict.rival, verdict.n, verdict.decided) == (best, "knn", 100, decided)
    assert verdict.difference == pytest.approx((rival.correct.sum() - model.correct.sum()) / 100)
    assert verdict.interval[0] <= verdict.difference <= verdict.interval[1]
    if rival.correct.sum() == 83:  # its p-value is drawn
        assert verdict.text.startswith(text.split(" (p")[0])
        assert verdict.p == pytest.approx(0.25, abs=0.02)
    else:
        assert verdict.text == text


def test_the_rival_is_the_most_accurate_method_and_among_equals_the_likeliest() -> None:
    methods = {"a": outcome(90), "b": outcome(95, nll=0.4), "c": outcome(95), "d": outcome(20)}
    verdict = judge(outcome(95, 5), methods)
    assert verdict.rival == "b"
    assert "b, the best of 4 simpler methods, on 95" in verdict.text


@pytest.mark.parametrize(("lost", "won"), [(2, 9), (0, 5), (10, 14), (1, 12)])
def test_a_single_comparison_has_the_p_value_of_mcnemars_test(lost: int, won: int) -> None:
    differences = np.repeat([-1, 1, 0], [lost, won, 50])
    first, second = differences < 0, differences > 0
    expected = compare_accuracies(first, second).p_value
    assert max_test(differences[:, None]) == pytest.approx(expected, abs=0.015)


def test_the_best_of_many_equal_methods_is_rarely_called_better() -> None:
    """Of methods that are as good as the model by construction, the best often has a small p-value."""
    rng, called, naive, trials = np.random.default_rng(0), 0, 0, 100
    for _ in range(trials):
        model = rng.random(150) < 0.85
        others = {f"m{k}": Outcome(rng.random(150) < 0.85, np.zeros(150)) for k in range(8)}
        verdict = judge(Outcome(model, np.zeros(150)), others)
        called += verdict.decided and verdict.best != "flowgmm"
        best = max(others.values(), key=lambda other: other.correct.sum()).correct
        naive += compare_accuracies(model, best).p_value < 0.05 and best.sum() > model.sum()
    assert called / trials < 0.09  # 5 % and two standard errors
    assert naive / trials > 0.09


def test_copies_of_a_method_do_not_count_as_more_methods() -> None:
    differences = np.repeat([-1, 1, 0], [2, 11, 50])
    single, copies = max_test(differences[:, None]), max_test(np.repeat(differences[:, None], 8, axis=1))
    assert copies == pytest.approx(single, abs=0.01)

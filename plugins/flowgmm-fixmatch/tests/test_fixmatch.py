from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_fixmatch import thresholds
from flowgmm_fixmatch.plugin import FixMatchConfig
from flowgmm_fixmatch.regulariser import FixMatch

P = torch.tensor(
    [[0.97, 0.02, 0.01], [0.96, 0.03, 0.01], [0.01, 0.98, 0.01], [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]]
)


def latents(class_log_prob: torch.Tensor) -> Latents:
    return Latents(torch.zeros(len(class_log_prob), 2), torch.zeros(len(class_log_prob)), class_log_prob)


def term(
    weak: torch.Tensor,
    strong: torch.Tensor,
    *,
    epoch: float = 10.0,
    temperature: float = 1.0,
    **parameters: Any,
) -> torch.Tensor:
    batch = Batch(
        labelled=torch.zeros(0, 2),
        labels=torch.empty(0, dtype=torch.int64),
        weak=torch.zeros(len(weak), 2),
        strong=torch.zeros(len(weak), 2),
        student={"strong": latents(strong), "weak": latents(weak.flip(1))},
        temperature=temperature,
        step=0,
        epoch=epoch,
        generator=torch.Generator(),
    )
    actual = FixMatch(FixMatchConfig(**parameters))(None, lambda x: latents(weak), batch)
    assert list(actual) == ["fixmatch"]
    return actual["fixmatch"]


def test_fixed_thresholds_are_constant() -> None:
    assert torch.equal(thresholds.constant_threshold(P, 0.9), torch.full((5,), 0.9))


def test_flex_thresholds_are_lower_for_classes_with_few_confident_rows() -> None:
    # confident rows at 0.95: two of class 0, one of class 1, none of class 2; two rows are below
    actual = thresholds.flexmatch_threshold(P, 0.95)
    half = 0.95 * 0.5 / 1.5
    torch.testing.assert_close(actual, torch.tensor([0.95, 0.95, half, 0.0, 0.0]))


def test_flex_thresholds_rise_slowly_while_most_rows_are_below() -> None:
    doubtful = torch.cat([P[:1], P[3:4].expand(9, -1)])
    share = 1 / 9  # one confident row of class 0 against nine below
    assert float(thresholds.flexmatch_threshold(doubtful, 0.95)[0]) == pytest.approx(
        0.95 * share / (2 - share)
    )


def test_free_thresholds_are_the_mean_confidence_scaled_by_class() -> None:
    confidence = (0.97 + 0.96 + 0.98 + 0.5 + 0.4) / 5
    mean = P.mean(0)
    expected = confidence * (mean / mean.max())[torch.tensor([0, 0, 1, 2, 2])]
    torch.testing.assert_close(thresholds.freematch_threshold(P), expected)


def test_without_rows_there_are_no_thresholds() -> None:
    empty = torch.zeros(0, 3)
    assert thresholds.constant_threshold(empty, 0.9).shape == (0,)
    assert thresholds.flexmatch_threshold(empty, 0.9).shape == (0,)
    assert thresholds.freematch_threshold(empty).shape == (0,)


def test_only_confident_rows_count_and_their_class_is_the_target() -> None:
    strong = torch.tensor(
        [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]]
    )
    log_p = torch.log_softmax(strong, 1)
    expected = -(log_p[0, 0] + log_p[1, 0] + log_p[2, 1]) / 5
    torch.testing.assert_close(term(P.log(), strong, thresholds="fixed", threshold=0.9), expected)


def test_a_threshold_that_is_met_exactly_counts() -> None:
    even = torch.zeros(1, 2)
    assert float(term(even, even, thresholds="fixed", threshold=0.5)) == pytest.approx(math.log(2))


def test_soft_targets_are_the_probabilities() -> None:
    strong = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    actual = term(P.log(), strong, thresholds="fixed", threshold=0.0, targets="soft")
    torch.testing.assert_close(actual, -(P * torch.log_softmax(strong, 1)).sum(1).mean())


def test_the_student_may_predict_for_itself() -> None:
    strong = torch.zeros(5, 3)
    strong[:, 0] = 5.0
    teacher, student = (
        term(P.log(), strong, thresholds="fixed", predictor=p) for p in ("teacher", "student")
    )
    assert float(student) > float(teacher)  # whose weak view has the classes turned round
    assert FixMatch(FixMatchConfig(predictor="student")).reads == {"weak", "strong"}
    assert FixMatch(FixMatchConfig()).reads == {"strong"}


def test_both_sides_are_tempered() -> None:
    cold = term(4 * P.log(), 4 * P.log(), temperature=4.0, thresholds="fixed")
    torch.testing.assert_close(cold, term(P.log(), P.log(), thresholds="fixed"))


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (1.5, 0.5), (3.0, 1.0), (50.0, 1.0)])
def test_the_term_grows_over_the_ramp(epoch: float, share: float) -> None:
    full = term(P.log(), P.log(), ramp_epochs=0.0)
    torch.testing.assert_close(term(P.log(), P.log(), epoch=epoch), share * full)


def test_a_single_class_costs_nothing() -> None:
    item = torch.zeros(4, 1)
    assert float(term(item, item)) == 0


def test_targets_take_no_gradient() -> None:
    weak, strong = P.log().requires_grad_(), torch.zeros(5, 3, requires_grad=True)
    for predictor in ("teacher", "student"):
        for kind in ("fixed", "flex", "free"):
            actual = term(weak, strong, thresholds=kind, predictor=predictor)
            at_strong, at_weak = torch.autograd.grad(actual, (strong, weak), allow_unused=True)
            assert at_strong.isfinite().all()
            assert at_weak is None


@pytest.mark.parametrize("kind", ["fixed", "flex", "free"])
def test_a_step_never_waits_for_the_device(kind: str) -> None:
    with torch.device("meta"):  # where no value can be looked at
        weak, strong = torch.zeros(6, 3), torch.zeros(6, 3)
        assert term(weak, strong, thresholds=kind).is_meta

from __future__ import annotations

import math

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.regularisers.specs import ConsistencyConfig
from flowgmm_cli.regularisers.terms import Consistency


def latents(class_log_prob: torch.Tensor) -> Latents:
    return Latents(torch.zeros(len(class_log_prob), 2), torch.zeros(len(class_log_prob)), class_log_prob)


def batch(strong: Latents, weak: torch.Tensor) -> Batch:
    return Batch(
        labelled=weak[:0],
        labels=torch.empty(0, dtype=torch.int64),
        weak=weak,
        strong=weak + 100,
        student={"labelled": latents(torch.zeros(0, 2)), "strong": strong},
        temperature=2.0,
        step=0,
        epoch=10.0,
        generator=torch.Generator(),
    )


def loss(sharpening: float) -> float:
    """Two rows: the teacher says (4 : 0) and (0 : 2) in log-odds, the student (0 : 2) and (1 : 1)."""
    seen = []

    def teacher(x: torch.Tensor) -> Latents:
        seen.append(x)
        return latents(torch.tensor([[4.0, 0.0], [0.0, 2.0]]))

    weak = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    student = latents(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    term = Consistency(ConsistencyConfig(sharpening=sharpening))(None, teacher, batch(student, weak))
    assert list(term) == ["consistency"]
    assert len(seen) == 1
    assert torch.equal(seen[0], weak)  # the teacher sees the weak view
    return float(term["consistency"])


def by_hand(odds: tuple[float, float]) -> float:
    """Cross-entropy with the teacher's log-odds for class 0, the student's tempered by 2."""
    first, second = (1 / (1 + math.exp(-log_odds)) for log_odds in odds)
    log_p = -math.log1p(math.exp(1)), 1 - math.log1p(math.exp(1))  # of the student's (0, 1)
    row_1 = -(first * log_p[0] + (1 - first) * log_p[1])
    row_2 = -(second + (1 - second)) * math.log(0.5)
    return (row_1 + row_2) / 2


# tempered by 2, then sharpened by 0.5: the teacher's log-odds come out as they were
@pytest.mark.parametrize(("sharpening", "odds"), [(0.5, (4.0, -2.0)), (1.0, (2.0, -1.0))])
def test_the_term_equals_a_computation_by_hand(sharpening: float, odds: tuple[float, float]) -> None:
    assert loss(sharpening) == pytest.approx(by_hand(odds), rel=1e-5)


def test_saturated_posteriors_stay_finite() -> None:
    far = torch.tensor([[0.0, -1e6]])
    term = Consistency(ConsistencyConfig(sharpening=0.01))(
        None, lambda x: latents(far), batch(latents(far.flip(1)), torch.zeros(1, 2))
    )
    assert float(term["consistency"]) == pytest.approx(5e5)

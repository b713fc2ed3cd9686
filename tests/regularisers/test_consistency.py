from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from flowgmm_cli.api import Batch, Latents
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.regularisers.consistency import Consistency
from flowgmm_cli.regularisers.specs import ConsistencyConfig


def latents(class_log_prob: torch.Tensor) -> Latents:
    return Latents(torch.zeros(len(class_log_prob), 2), torch.zeros(len(class_log_prob)), class_log_prob)


def batch(strong: Latents, weak: torch.Tensor, *, epoch: float = 10.0, temperature: float = 2.0) -> Batch:
    return Batch(
        labelled=weak[:0],
        labels=torch.empty(0, dtype=torch.int64),
        weak=weak,
        strong=weak + 100,
        student={"labelled": latents(torch.zeros(0, 2)), "strong": strong},
        temperature=temperature,
        step=0,
        epoch=epoch,
        generator=torch.Generator(),
    )


def loss(sharpening: float = 0.5, ramp: float = 3.0, **options: float) -> float:
    """Two rows: the teacher says (4 : 0) and (0 : 2) in log-odds, the student (0 : 2) and (1 : 1)."""
    seen = []

    def teacher(x: torch.Tensor) -> Latents:
        seen.append(x)
        return latents(torch.tensor([[4.0, 0.0], [0.0, 2.0]]))

    weak = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    student = latents(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
    term = Consistency(ConsistencyConfig(sharpening=sharpening, ramp_epochs=ramp))(
        None, teacher, batch(student, weak, **options)
    )
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


def test_the_term_equals_a_computation_by_hand() -> None:
    # tempered by 2, then sharpened by 0.5: the teacher's log-odds come out as they were
    assert loss(sharpening=0.5) == pytest.approx(by_hand((4.0, -2.0)), rel=1e-5)


def test_a_sharpening_of_1_leaves_the_tempered_posterior() -> None:
    assert loss(sharpening=1.0) == pytest.approx(by_hand((2.0, -1.0)), rel=1e-5)


@pytest.mark.parametrize(("epoch", "share"), [(0.0, 0.0), (1.5, 0.5), (3.0, 1.0), (50.0, 1.0)])
def test_the_term_grows_over_the_ramp(epoch: float, share: float) -> None:
    assert loss(epoch=epoch) == pytest.approx(share * loss(), rel=1e-6)
    assert loss(epoch=epoch, ramp=0.0) == loss()


def test_no_gradient_reaches_the_teacher(make_model: Callable[..., FlowMixture]) -> None:
    teacher, student = make_model(seed=0), make_model(seed=1)  # both with parameters that take gradients
    weak = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    term = Consistency(ConsistencyConfig())(student, teacher, batch(student(weak + 0.1), weak))
    term["consistency"].backward()  # type: ignore[no-untyped-call]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(float(p.grad.abs().sum()) > 0 for p in student.parameters() if p.grad is not None)


def test_without_rows_the_term_is_zero_and_has_a_finite_gradient() -> None:
    none = torch.zeros(0, 2, requires_grad=True)
    term = Consistency(ConsistencyConfig())(None, latents, batch(latents(none), none))["consistency"]
    term.backward()  # type: ignore[no-untyped-call]
    assert term.item() == 0
    assert none.grad is not None


def test_saturated_posteriors_stay_finite() -> None:
    far = torch.tensor([[0.0, -1e6]])
    term = Consistency(ConsistencyConfig(sharpening=0.01))(
        None, lambda x: latents(far), batch(latents(far.flip(1)), torch.zeros(1, 2))
    )
    assert float(term["consistency"]) == pytest.approx(5e5)


def test_it_reads_the_strong_view_of_the_student_only() -> None:
    assert Consistency(ConsistencyConfig()).reads == {"strong"}

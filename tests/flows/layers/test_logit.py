from __future__ import annotations

import math

import pytest
import torch

from flowgmm_cli.flows.layers.logit import Logit


def test_a_case_by_hand() -> None:
    z, log_det = Logit(0.05)(torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64))
    # y = 0.5, 0.05, 0.95; logit 0, -ln 19, ln 19; slopes 0.9 / 0.25, 0.9 / 0.0475 twice
    assert z[0].tolist() == pytest.approx([0, -math.log(19), math.log(19)], abs=1e-12)
    assert log_det.item() == pytest.approx(math.log(3.6) + 2 * math.log(0.9 / 0.0475), abs=1e-12)


def test_the_inverse_gives_pixels_back_and_not_pixels_squeezed_together() -> None:
    layer = Logit(0.05)
    x = torch.linspace(0, 1, 257)[None]
    torch.testing.assert_close(layer.inverse(layer(x)[0]), x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_beyond_the_interval_the_curve_is_its_tangent(alpha: float) -> None:
    layer = Logit(alpha)
    edge = torch.tensor([[1.0]], dtype=torch.float64).requires_grad_()
    z, log_det = layer(edge)
    far, far_log_det = layer(edge.detach() + 3)
    slope = (1 - 2 * alpha) / (alpha * (1 - alpha))
    torch.testing.assert_close(far, z.detach() + 3 * slope, rtol=1e-9, atol=0)
    torch.testing.assert_close(far_log_det, log_det.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(layer.inverse(far), edge.detach() + 3, rtol=1e-9, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1])
def test_an_alpha_without_a_logit_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1/2"):
        Logit(alpha)


def test_it_prints_its_alpha() -> None:
    assert repr(Logit(0.05)) == "Logit(alpha=0.05)"

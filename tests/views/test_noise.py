from __future__ import annotations

import pytest
import torch

from flowgmm_cli.views.noise import Noise
from flowgmm_cli.views.specs import NoiseConfig


def test_noise_has_mean_zero_and_the_given_spread() -> None:
    x = torch.full((4000, 25), 3.0)
    noise = Noise(NoiseConfig(scale=0.5))(x, torch.Generator().manual_seed(0)) - x
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert float(noise.square().square().mean() / noise.square().mean() ** 2) == pytest.approx(3, rel=0.05)
    correlation = torch.corrcoef(noise.T) - torch.eye(25)
    assert float(correlation.abs().max()) < 0.1


def test_noise_of_scale_zero_changes_nothing() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Noise(NoiseConfig(scale=0.0))(x, torch.Generator()), x)

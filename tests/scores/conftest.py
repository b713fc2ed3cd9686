"""A Gaussian example whose scores are known."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from score_rows import Identity, make_inputs

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture, Model


@pytest.fixture
def gaussian() -> Model:
    """Two classes at -3 and 3 on the first of four axes, with standard deviation 1, under the identity."""
    means = torch.zeros(2, 4)
    means[0, 0], means[1, 0] = -3.0, 3.0
    return FlowMixture(Identity(), GaussianMixture(means))


@pytest.fixture
def draw(gaussian: Model) -> Callable[..., ScoreInputs]:
    """Draw rows of that model with its outputs for them: `draw(100, seed=1)`."""

    def make(n: int, *, seed: int = 0, with_images: bool = True) -> ScoreInputs:
        x, _ = gaussian.sample(n, torch.Generator().manual_seed(seed))
        return make_inputs(gaussian, x, x.reshape(n, 2, 2) if with_images else None)

    return make

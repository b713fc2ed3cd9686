"""Gaussian noise as a view."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.specs import NoiseConfig


class Noise:
    """Adds independent noise N(0, scale^2) to every feature."""

    def __init__(self, config: NoiseConfig) -> None:
        self.scale = config.scale

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy rows of the shape of `x`."""
        noise = torch.empty_like(x).normal_(generator=generator)
        return torch.add(x, noise, alpha=self.scale)

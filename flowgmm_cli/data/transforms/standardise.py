"""Transform `standardise`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowgmm_cli.data.transforms.base import Transform, spread

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import StandardiseConfig


class Standardise(Transform):
    r"""Mean 0 and standard deviation 1 for each feature: :math:`z_i = (x_i - m_i) / s_i`.

    A feature that is constant in the training rows keeps its scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Take means and standard deviations."""
        deviation = spread(x)
        self.mean = x.mean(dim=0)
        self.scale = torch.where(deviation > 0, deviation, torch.ones_like(deviation))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`-\sum_i \log s_i`."""
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z * self.scale + self.mean


def build(config: StandardiseConfig, *, features: int) -> Standardise:
    """Build the transform for `features` columns."""
    return Standardise(features)

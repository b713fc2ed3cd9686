"""Transform `scale`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowgmm_cli.data.transforms.base import Transform, spread

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import ScaleConfig


class Scale(Transform):
    r"""All features times one number :math:`a`; by default what makes their mean variance 1.

    The directions of the data keep their relative sizes, which matters to embeddings.
    """

    factor: Tensor

    def __init__(self, features: int, factor: float | None = None) -> None:
        super().__init__(features)
        self._given = factor
        self.register_buffer("factor", torch.tensor(factor or 1.0, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Find the factor, unless it is given."""
        if self._given is None:
            variance = spread(x).square().mean()
            self.factor = torch.where(variance > 0, variance.rsqrt(), torch.ones_like(variance))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`D \log a`."""
        return x * self.factor, (self.in_features * self.factor.log()).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z / self.factor


def build(config: ScaleConfig, *, features: int) -> Scale:
    """Build the transform for `features` columns."""
    return Scale(features, config.factor)

"""Transforms `standardise`, `scale` and `clip`: each acts on every feature by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.bijection import zero_log_det
from flowgmm_cli.data.specs import ClipConfig, ScaleConfig, StandardiseConfig
from flowgmm_cli.data.transforms.base import Transform, column_std


class Standardise(Transform):
    r"""Mean 0 and standard deviation 1 for each feature: :math:`z_i = (x_i - m_i) / s_i`.

    A feature that is constant in the training rows keeps its scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: StandardiseConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Compute means and standard deviations."""
        std = column_std(x)
        self.mean = x.mean(dim=0)
        self.scale = torch.where(std > 0, std, torch.ones_like(std))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`-\sum_i \log s_i`."""
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z * self.scale + self.mean


class Scale(Transform):
    r"""All features multiplied by one number :math:`a`; the default makes their mean variance 1.

    The directions of the data keep their relative sizes, which matters to embeddings.
    """

    factor: Tensor

    config: ScaleConfig

    def __init__(self, config: ScaleConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.register_buffer("factor", torch.tensor(config.factor or 1.0, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Compute the factor, unless the configuration sets it."""
        if self.config.factor is None:
            variance = column_std(x).square().mean()
            self.factor = torch.where(variance > 0, variance.rsqrt(), torch.ones_like(variance))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`D \log a`."""
        return x * self.factor, (self.in_features * self.factor.log()).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z / self.factor


class Clip(Transform):
    """Limit each feature to [-limit, limit], in the units of the preceding transform.

    Bounds outlying cells (sentinels, detector faults). Clipped values cannot be restored, so the log-det is 0
    and the density is that of the clipped rows.
    """

    def __init__(self, config: ClipConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.limit = config.limit

    @property
    def inexact(self) -> str:
        """Reason: clipping cannot be undone."""
        return f"clip cuts values beyond {self.limit:g}; the density is that of clipped rows"

    def fit(self, x: Tensor) -> None:
        """Do nothing: the limit is given."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clipped rows and zeros."""
        return x.clamp(-self.limit, self.limit), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return `z`, which is exact for rows that were not clipped."""
        return z

    def extra_repr(self) -> str:
        """Show the limit."""
        return f"limit={self.limit:g}"

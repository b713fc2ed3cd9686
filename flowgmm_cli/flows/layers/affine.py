"""A scale and a shift for each feature."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det


class ElementwiseAffine(Bijection):
    r""":math:`z = (x - t) \, e^{s}` with learned vectors s and t, at first the identity.

    The shift comes first: a narrow feature far from the origin keeps its digits.

    Args:
        features: length of the vector.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape; the log-determinant is the same for every row."""
        return (x - self.shift) * self.log_scale.exp(), zero_log_det(x) + self.log_scale.sum()

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return z * torch.exp(-self.log_scale) + self.shift

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}"

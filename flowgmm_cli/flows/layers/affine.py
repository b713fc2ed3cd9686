"""A scale and a shift for each feature or channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det


class ElementwiseAffine(Bijection):
    r""":math:`z = (x - t) \, e^{s}` with learned vectors s and t, at first the identity.

    The shift comes first: a narrow feature far from the origin keeps its digits.

    Of images `(batch, channels, height, width)` the channels are the features: one scale and shift for all
    places of a channel.

    Args:
        features: length of the vector, or number of channels.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.log_scale = nn.Parameter(torch.zeros(features))
        self.shift = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features, ...)` to the same shape; the log-determinant is the same for every row."""
        places = x.shape[2:].numel()
        z = (x - self._broad(self.shift, x)) * self._broad(self.log_scale, x).exp()
        return z, zero_log_det(x) + places * self.log_scale.sum()

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return z * torch.exp(-self._broad(self.log_scale, z)) + self._broad(self.shift, z)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}"

    def _broad(self, parameter: Tensor, x: Tensor) -> Tensor:
        return parameter.reshape(-1, *[1] * (x.dim() - 2))

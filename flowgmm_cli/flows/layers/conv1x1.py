"""Invertible 1 by 1 convolution (Kingma and Dhariwal, 2018, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from flowgmm_cli.bijection import zero_log_det
from flowgmm_cli.flows.layers.linear import LULinear


class Conv1x1(LULinear):
    r""":math:`z_{hw} = L U R \, x_{hw}` at every place, with a fixed rotation R; at first z is R x.

    .. math:: \log|\det| = H W \textstyle\sum_i \log U_{ii}

    The paper writes a random rotation as P L U and fixes P, which leaves signs on the diagonal to be kept
    apart; here the rotation itself is what is fixed and L and U start as the identity. The matrix is as
    general, and as cheap to invert. Like `LULinear` it runs in float32 at least.

    Args:
        channels: number of channels.
        generator: draws R, uniform among the orthogonal matrices, on the CPU.
    """

    rotation: Tensor
    log_volume: Tensor

    def __init__(self, channels: int, *, generator: torch.Generator) -> None:
        super().__init__(channels)
        drawn = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(drawn)
        # without the signs of R's diagonal, Q would depend on the algorithm (Mezzadri, 2007)
        rotation = (q * r.diagonal().sign()).float().contiguous()
        self.register_buffer("rotation", rotation)
        # rounding to float32 leaves it a volume of not quite 1, which float64 would notice
        self.register_buffer("log_volume", torch.linalg.slogdet(rotation.double()).logabsdet.float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, height, width)` to the same shape."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self.factors(dtype)
            weight = lower @ upper @ self.rotation.to(dtype)
            z = conv2d(x.to(dtype), weight[:, :, None, None])
        return z, zero_log_det(x) + x.shape[2:].numel() * (self.log_diagonal.sum() + self.log_volume)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward` by the inverse of the matrix: there are more places than channels."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            lower, upper = self.factors(dtype)
            identity = torch.eye(self.features, dtype=dtype, device=z.device)
            half = torch.linalg.solve_triangular(lower, identity, upper=False, unitriangular=True)
            whole = torch.linalg.solve_triangular(upper, half, upper=True)
            # after rounding, the transpose is not its inverse to the last digits of float64
            weight = torch.linalg.solve(self.rotation.to(dtype), whole)
            return conv2d(z.to(dtype), weight[:, :, None, None])

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"channels={self.features}"

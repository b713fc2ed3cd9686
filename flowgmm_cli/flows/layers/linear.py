"""Linear layers that mix features or channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from flowgmm_cli.bijection import Bijection, zero_log_det


class Permutation(Bijection):
    r"""Fixed permutation of the features, :math:`z_i = x_{\mathrm{order}(i)}`.

    Args:
        order: a permutation of `range(features)`, int64 `(features,)`.

    Examples:
        >>> import torch
        >>> Permutation(torch.tensor([2, 0, 1]))(torch.tensor([[10, 11, 12]]))[0]
        tensor([[12, 10, 11]])
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order.clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reorder the features of `(batch, features, ...)`; the log-determinant is 0."""
        return x.index_select(1, self.order), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        return z.index_select(1, torch.argsort(self.order))

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={len(self.order)}"


class LULinear(Bijection):
    r"""Linear map by an LU product, initially the identity.

    .. math:: z = L U x, \quad \log|\det| = \textstyle\sum_i \log U_{ii}

    L is unit lower and U upper triangular (Kingma and Dhariwal, 2018, eq. 10, without the permutation). The
    diagonal of U is an exponential, so the map stays invertible. It is computed in float32 at least, also
    under autocast, since an error here would be an error of the density.

    Args:
        features: length of the vector.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.lower = nn.Parameter(torch.zeros(features, features))
        self.upper = nn.Parameter(torch.zeros(features, features))
        self.log_diagonal = nn.Parameter(torch.zeros(features))

    def factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """L and U, each `(features, features)`."""
        identity = torch.eye(self.features, dtype=dtype, device=self.lower.device)
        lower = self.lower.to(dtype).tril(-1) + identity
        upper = self.upper.to(dtype).triu(1) + self.log_diagonal.to(dtype).exp().diag()
        return lower, upper

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape; the log-determinant is the same for every row."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            lower, upper = self.factors(dtype)
            # The batch is usually longer than the vector, so L U is multiplied first.
            z = x.to(dtype) @ (lower @ upper).T
        return z, zero_log_det(x) + self.log_diagonal.sum()

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward` by two triangular solves."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            return self._solve(z.to(dtype).T).T

    def _solve(self, columns: Tensor) -> Tensor:
        """Solve L U x = b for the columns b."""
        lower, upper = self.factors(columns.dtype)
        half = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
        solution: Tensor = torch.linalg.solve_triangular(upper, half, upper=True)
        return solution


class Conv1x1(LULinear):
    r"""Invertible 1 by 1 convolution, initially a random rotation of the channels.

    .. math:: z_{hw} = L U R \, x_{hw}, \quad \log|\det| = H W \textstyle\sum_i \log U_{ii}

    Kingma and Dhariwal (2018, section 3.2) write a random rotation as P L U and fix P, which requires the
    signs of the diagonal to be stored. Here the rotation R itself is fixed and L and U start as the identity;
    the matrix is as general and as cheap to invert.

    Args:
        channels: number of channels.
        generator: draws R, uniform among the orthogonal matrices, on the CPU.
    """

    rotation: Tensor
    log_volume: Tensor

    def __init__(self, channels: int, *, generator: torch.Generator) -> None:
        super().__init__(channels)
        normal = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
        q, r = torch.linalg.qr(normal)
        # Without the signs of the diagonal, Q would depend on the algorithm (Mezzadri, 2007).
        rotation = (q * r.diagonal().sign()).float().contiguous()
        self.register_buffer("rotation", rotation)
        # Rounding to float32 changes the volume from 1 by an amount that float64 shows.
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
        """Invert `forward` by the inverse matrix: there are more pixels than channels."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            inverse = self._solve(torch.eye(self.features, dtype=dtype, device=z.device))
            # After rounding, the transpose of R is not its inverse to the last digits of float64.
            weight = torch.linalg.solve(self.rotation.to(dtype), inverse)
            return conv2d(z.to(dtype), weight[:, :, None, None])

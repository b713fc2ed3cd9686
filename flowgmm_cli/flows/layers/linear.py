"""Linear layers that mix the features: a fixed permutation and a learned LU product."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det


class Permutation(Bijection):
    """A fixed reordering, `z[:, i] = x[:, order[i]]`.

    Args:
        order: a permutation of `range(features)`, int64 `(features,)`.
    """

    order: Tensor

    def __init__(self, order: Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order.clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reorder the features of `(batch, features)`; the log-determinant is 0."""
        return x.index_select(1, self.order), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return z.index_select(1, torch.argsort(self.order))

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={len(self.order)}"


class LULinear(Bijection):
    r""":math:`z = L U x` with L unit lower and U upper triangular, at first the identity.

    .. math:: \log|\det| = \textstyle\sum_i \log U_{ii}

    (Kingma and Dhariwal, 2018, eq. 10, without the permutation.) The diagonal of U is an exponential, so the
    map stays invertible; it runs in float32 at least, whatever autocast asks for, since an error here would
    be an error of the density.

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
            # One product with the whole matrix: the batch is usually longer than the vector.
            z = x.to(dtype) @ (lower @ upper).T
        return z, zero_log_det(x) + self.log_diagonal.sum()

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward` by two triangular solves."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            lower, upper = self.factors(dtype)
            half = torch.linalg.solve_triangular(lower, z.to(dtype).T, upper=False, unitriangular=True)
            x: Tensor = torch.linalg.solve_triangular(upper, half, upper=True).T
        return x

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}"

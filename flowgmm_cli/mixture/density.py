"""Gaussian log-densities of rows by matrix products."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_normal(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    r""":math:`\log N(z_n; \mu_m, \mathrm{diag}(\sigma_m^2))` for all n and m, in the dtype of `z`.

    Squared distances come from the expansion :math:`|z|^2 - 2 z \mu_m + |\mu_m|^2`, which needs no
    `(N, M, D)` numbers but loses digits where a row is much nearer to a mean than to the origin. In float64
    the loss is smaller than the spacing of float32 numbers at that place. MPS has no float64; there the
    expansion is about the centre of the means, in float32.

    Args:
        z: rows `(N, D)`.
        means: `(M, D)`.
        scales: standard deviations, `(M, D)`, `(M, 1)`, `(1, D)` or `(1, 1)`.

    Returns:
        `(N, M)`.
    """
    dtype, features = z.dtype, z.shape[1]
    if z.device.type == "mps":
        centre = means.detach().mean(0)
        z, means = z - centre, means - centre
    else:
        z, means, scales = z.double(), means.double(), scales.double()
    precision = scales.square().reciprocal()
    constant = features * math.log(2 * math.pi) + (features // scales.shape[1]) * 2 * scales.log().sum(1)
    if scales.shape[1] == 1:
        squares = torch.addmm(means.square().sum(1), z, means.T, alpha=-2) + z.square().sum(1, keepdim=True)
        return (-0.5 * (squares * precision.T + constant)).to(dtype)
    weighted = precision * means
    constant = constant + (weighted * means).sum(1)
    crossed = torch.addmm(constant, z, weighted.T, alpha=-2)
    return (-0.5 * (crossed + z.square() @ precision.T)).to(dtype)

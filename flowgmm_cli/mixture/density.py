"""Densities of rows under Gaussians by matrix products, without losing digits far from the origin."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_normal(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    r""":math:`\log N(z_n; \mu_m, \mathrm{diag}(\sigma_m^2))` for all n and m, in the dtype of the arguments.

    The textbook expansion :math:`|z|^2 - 2 z \mu_m + |\mu_m|^2` loses every digit of a small distance far
    from the origin. Here it is taken about c, the mean nearest to the row, which keeps all of its terms
    about as small as the distances themselves:
    with :math:`r = z - c`, :math:`|z - \mu_m|^2 = |r|^2 + 2 r (c - \mu_m) + |c - \mu_m|^2`.

    Args:
        z: rows `(N, D)`.
        means: `(M, D)`.
        scales: standard deviations, `(M, D)`, `(M, 1)`, `(1, D)` or `(1, 1)`.

    Returns:
        `(N, M)`.
    """
    # The result depends neither on the origin nor on the centres: no gradient passes through them.
    fixed = means.detach()
    origin = fixed.mean(0)
    nearest = _nearest(z.detach() - origin, fixed - origin)
    residual = z - fixed.index_select(0, nearest)  # many times as fast as `fixed[nearest]`
    means, centres = means - origin, fixed - origin
    centre = centres.index_select(0, nearest)
    precision = scales.square().reciprocal()
    features = z.shape[1]
    if scales.shape[1] == 1:
        own = residual.square().sum(1, keepdim=True)
        lean = (residual * centre).sum(1, keepdim=True) - residual @ means.T
        offset = _weighted_distances(centres, means, torch.ones_like(means[:1])).index_select(0, nearest)
        quadratic = (own + 2 * _without(lean, nearest) + offset) * precision.T
        log_volume = features * scales.log().sum(1)
    else:
        own = residual.square() @ precision.T
        lean = (residual * centre) @ precision.T - residual @ (precision * means).T
        offset = _weighted_distances(centres, means, precision).index_select(0, nearest)
        quadratic = own + 2 * _without(lean, nearest) + offset
        log_volume = scales.log().sum(1)
    return -0.5 * (quadratic + features * math.log(2 * math.pi)) - log_volume


def _nearest(z: Tensor, means: Tensor) -> Tensor:
    """Index of the mean nearest to each row, up to rounding: any near one will do as a centre."""
    return torch.addmm(means.square().sum(1), z, means.T, alpha=-2).argmin(1)


def _without(lean: Tensor, nearest: Tensor) -> Tensor:
    """Set the entries `lean[n, nearest[n]]`, 0 up to rounding, to exactly 0, and keep their gradient."""
    error = lean.detach().gather(1, nearest[:, None])
    return lean.scatter_add(1, nearest[:, None], -error)


def _weighted_distances(centres: Tensor, means: Tensor, precision: Tensor) -> Tensor:
    r""":math:`\sum_d p_{md} (c_{jd} - \mu_{md})^2`, `(J, M)`, from `(J, D)`, `(M, D)` and `(M or 1, D)`.

    By the expansion, which needs no `(J, M, D)` numbers, but in float64, whose digits are enough for it;
    there are few means, so this costs next to nothing. Where the device has no float64 the CPU lends its own.
    """
    place = torch.device("cpu") if centres.device.type == "mps" else centres.device
    c, mu, p = (one.to(place).double() for one in (centres, means, precision))
    weighted = p * mu
    distances = c.square() @ p.T - 2 * (c @ weighted.T) + (weighted * mu).sum(1)
    return distances.to(centres.dtype).to(centres.device)

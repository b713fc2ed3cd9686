"""Densities of rows under Gaussians by matrix products, without losing digits far from the origin."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgmm_cli.nodes import differentiable, unwatched


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
    if scales.shape[1] > 1:
        return _diagonal(z, means, scales)
    if not (torch.is_grad_enabled() and unwatched(z, means, scales)):
        return _spherical(z, means, scales)
    found: Tensor = _Spherical.apply(z, means, scales)  # type: ignore[no-untyped-call]
    return found


class _Near(NamedTuple):
    """Rows and means, seen from the mean nearest to each row and from amid the means.

    The densities depend on neither of the two points: no gradient passes through them.
    """

    nearest: Tensor  # index of that mean, `(N, 1)`; up to rounding: any near one will do
    residual: Tensor  # r, `(N, D)`
    means: Tensor  # `(M, D)`
    centres: Tensor  # the same numbers without a gradient

    @classmethod
    def of(cls, z: Tensor, means: Tensor) -> _Near:
        fixed = means.detach()
        origin = fixed.mean(0)
        centres = fixed - origin
        index = torch.addmm(centres.square().sum(1), z.detach() - origin, centres.T, alpha=-2).argmin(1)
        # `fixed[index]` would take many times as long
        return cls(index[:, None], z - fixed.index_select(0, index), means - origin, centres)

    def distances(self) -> Tensor:
        """Squared, of all rows from all means, `(N, M)`."""
        toward = self.residual @ self.means.T
        centre = self.residual @ self.centres.T if torch.is_grad_enabled() else toward
        lean = centre.gather(1, self.nearest) - toward  # of the same numbers: exactly 0 for the nearest mean
        between = _weighted_distances(self.centres, self.means, torch.ones_like(self.centres[:1]))
        own = self.residual.square().sum(1, keepdim=True)
        return own + 2 * lean + between.index_select(0, self.nearest[:, 0])


def _spherical(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    return _normal(_Near.of(z, means).distances() * scales.square().reciprocal().T, scales, z.shape[1])


def _diagonal(z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
    near = _Near.of(z, means)
    precision = scales.square().reciprocal()
    own = near.residual.square() @ precision.T
    centre = near.centres.index_select(0, near.nearest[:, 0])
    lean = (near.residual * centre) @ precision.T - near.residual @ (precision * near.means).T
    error = lean.detach().gather(1, near.nearest)  # that of the nearest mean is 0 but for rounding
    lean = lean.scatter_add(1, near.nearest, -error)
    between = _weighted_distances(near.centres, near.means, precision)
    return _normal(own + 2 * lean + between.index_select(0, near.nearest[:, 0]), scales, z.shape[1])


def _normal(distances: Tensor, scales: Tensor, features: int) -> Tensor:
    """Log-densities from squared distances in units of the scales."""
    log_volume = (features // scales.shape[1]) * scales.log().sum(1)
    return -0.5 * (distances + features * math.log(2 * math.pi)) - log_volume


class _Spherical(torch.autograd.Function):
    """`_spherical` as one node: the gradient of its parts would pass over the rows a dozen times."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, means: Tensor, scales: Tensor) -> Tensor:
        near = _Near.of(z, means)
        precision = scales.square().reciprocal().T
        distances = near.distances() * precision
        ctx.save_for_backward(
            z, means, scales, near.nearest, near.residual, near.centres, precision, distances
        )
        return _normal(distances, scales, z.shape[1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        z, means, scales, nearest, residual, centres, precision, distances = ctx.saved_tensors
        if torch.is_grad_enabled():  # this gradient is to have a gradient
            parts = differentiable(
                lambda *inputs: [_spherical(*inputs)], (z, means, scales), slopes, ctx.needs_input_grad
            )
            return tuple(parts)
        of_z = of_means = of_scales = None
        with torch.autocast(z.device.type, enabled=False):  # as in the way forward
            # - sum_m pull (z - mu_m) is the gradient of z, and z - mu_m = r + (c - mu_m)
            pull = slopes[0] * precision
            is_nearest = torch.arange(len(means), device=z.device) == nearest
            if ctx.needs_input_grad[0]:
                whole = pull.sum(1, keepdim=True)
                of_z = ((pull - whole * is_nearest) @ centres).addcmul_(residual, whole, value=-1)
            if ctx.needs_input_grad[1]:
                by_centre = is_nearest.to(pull.dtype).T @ pull
                by_centre.fill_diagonal_(0)  # those are at no distance
                of_means = pull.T @ residual + by_centre.T @ centres - by_centre.sum(0)[:, None] * centres
            if ctx.needs_input_grad[2]:
                per_scale = (slopes[0] * (distances - z.shape[1])).sum(0)[:, None]
                of_scales = per_scale.sum_to_size(scales.shape) / scales
        return of_z, of_means, of_scales


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

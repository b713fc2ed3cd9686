"""Scaling and shifting by what a network puts out, gradients included: a coupling without its products."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.nodes import differentiable, unwatched


def scale_and_shift(raw: Tensor, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    r""":math:`x \, e^s + t` and :math:`\sum s` for the log-scale :math:`s = l \tanh(\hat s / l)`.

    On plain tensors it is one node of the graph, which takes half the time of its parts: they would pass over
    the rows a dozen times for the gradient alone.

    Args:
        raw: :math:`\hat s` and t side by side, `(N, 2 C)`.
        x: `(N, C)`, in the dtype of `raw`.
        limit: l.

    Returns:
        `(N, C)` and `(N,)`.
    """
    if raw.dtype != x.dtype or not unwatched(raw, x):
        return _plain(raw, x, limit)
    if not torch.is_grad_enabled():
        return _through(raw, x, limit)[:2]
    found: tuple[Tensor, Tensor] = _ScaleAndShift.apply(raw, x, limit)  # type: ignore[no-untyped-call]
    return found


def scale_of(raw: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """The log-scale and the shift, `(N, C)` each, of `raw` `(N, 2 C)`."""
    unbounded, shift = raw.chunk(2, dim=1)
    # by the sigmoid, whose kernel is several times as fast on a CPU as that of tanh, and as exact here
    return (torch.sigmoid(unbounded * (2 / limit)) - 0.5) * (2 * limit), shift


def _plain(raw: Tensor, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    scale, shift = scale_of(raw, limit)
    return torch.addcmul(shift, x, scale.exp()), scale.sum(1)


def _through(raw: Tensor, x: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same in place, with the log-scale and its exponential."""
    unbounded, shift = raw.chunk(2, dim=1)
    scale = (unbounded * (2 / limit)).sigmoid_().sub_(0.5).mul_(2 * limit)
    factor = scale.exp()
    return torch.addcmul(shift, x, factor), scale.sum(1), scale, factor


class _ScaleAndShift(torch.autograd.Function):
    """See `scale_and_shift`."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
        out, log_det, scale, factor = _through(raw, x, limit)
        ctx.limit = limit
        ctx.save_for_backward(raw, x, scale, factor)
        return out, log_det

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        raw, x, scale, factor = ctx.saved_tensors
        slope, log_det_slope = slopes
        if torch.is_grad_enabled():  # this gradient is to have a gradient
            needed = ctx.needs_input_grad[:2]
            return (*differentiable(partial(_plain, limit=ctx.limit), (raw, x), slopes, needed), None)
        of_x = slope * factor
        of_raw = torch.empty_like(raw)
        of_scale, of_shift = of_raw.chunk(2, dim=1)
        of_shift.copy_(slope)
        torch.mul(of_x, x, out=of_scale)
        of_scale += log_det_slope[:, None]
        of_scale *= scale.square().mul_(-1 / ctx.limit**2).add_(1)  # d s / d raw = 1 - (s / l)^2
        return of_raw, of_x, None

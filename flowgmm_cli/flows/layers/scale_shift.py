"""Scaling and shifting by the output of a network."""

from __future__ import annotations

import torch
from torch import Tensor


def scale_and_shift(raw: Tensor, x: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    r""":math:`x \, e^s + t` and :math:`\sum s` for the log-scale :math:`s = l \tanh(\hat s / l)`.

    Args:
        raw: :math:`\hat s` and t side by side, `(N, 2 C)`.
        x: `(N, C)`, in the dtype of `raw`.
        limit: l.

    Returns:
        `(N, C)` and `(N,)`.
    """
    scale, shift = scale_of(raw, limit)
    return torch.addcmul(shift, x, scale.exp()), scale.sum(1)


def scale_of(raw: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """The log-scale and the shift, `(N, C)` each, of `raw` `(N, 2 C)`."""
    unbounded, shift = raw.chunk(2, dim=1)
    # tanh by the sigmoid, whose kernel is several times as fast on a CPU, and as exact here
    return (torch.sigmoid(unbounded * (2 / limit)) - 0.5) * (2 * limit), shift

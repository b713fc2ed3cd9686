"""How a term grows at the start of training."""

from __future__ import annotations


def linear_ramp(epoch: float, length: float) -> float:
    """Grow linearly from 0 to 1 over `length` epochs; 1 at once if `length` is 0.

    >>> linear_ramp(0.0, 3.0), linear_ramp(1.5, 3.0), linear_ramp(9.0, 3.0), linear_ramp(0.0, 0.0)
    (0.0, 0.5, 1.0, 1.0)
    """
    return 1.0 if length <= 0 else min(1.0, epoch / length)

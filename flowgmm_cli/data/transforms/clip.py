"""Transform `clip`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from flowgmm_cli.bijection import zero_log_det
from flowgmm_cli.data.transforms.base import Transform

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import ClipConfig


class Clip(Transform):
    """Limit each feature to [-limit, limit], in the units that hold at this place.

    Tames cells far outside the rest (sentinels, detector faults). What was cut off cannot be restored, so the
    log-det is 0 and the density is that of the clipped rows.
    """

    def __init__(self, features: int, limit: float) -> None:
        super().__init__(features)
        self.limit = limit

    @property
    def inexact(self) -> str:
        """Clipping cannot be undone."""
        return f"clip cuts values beyond {self.limit:g}; the density is that of clipped rows"

    def fit(self, x: Tensor) -> None:
        """Nothing to learn."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clipped rows and zeros."""
        return x.clamp(-self.limit, self.limit), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return `z`, which is right for rows that were not clipped."""
        return z

    def extra_repr(self) -> str:
        """Show the limit."""
        return f"limit={self.limit:g}"


def build(config: ClipConfig, *, features: int) -> Clip:
    """Build the transform for `features` columns."""
    return Clip(features, config.limit)

"""The logit that takes pixels off their interval (Dinh, Sohl-Dickstein and Bengio, 2017, section 4.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowgmm_cli.bijection import Bijection


class Logit(Bijection):
    r""":math:`z = \mathrm{logit}(a + (1 - 2a) x)` of each number x in [0, 1].

    .. math:: \frac{dz}{dx} = \frac{1 - 2a}{y (1 - y)}, \quad y = a + (1 - 2a) x

    Below 0 and above 1, where noise or a view may put a number, the curve goes on as its tangent, so that the
    map is one of all real numbers, with values and slopes that stay finite.

    Args:
        alpha: a, above 0 and below 1/2; 0.05 in the paper.
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must lie between 0 and 1/2, got {alpha}")
        self.alpha = alpha
        self.end = math.log1p(-alpha) - math.log(alpha)  # z at x = 1; -z at x = 0
        self.slope = (1 - 2 * alpha) / (alpha * (1 - alpha))  # at both ends

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, ...)` to the same shape, with the log-determinant."""
        inside = x.clamp(0, 1)
        z = torch.logit(self.alpha + (1 - 2 * self.alpha) * inside)
        # -log y - log(1 - y); the clamp holds it at the slope of the tangent outside
        log_slope = math.log1p(-2 * self.alpha) - logsigmoid(z) - logsigmoid(-z)
        return z + self.slope * (x - inside), log_slope.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        inside = z.clamp(-self.end, self.end)
        x = (torch.sigmoid(inside) - self.alpha) / (1 - 2 * self.alpha)
        return x + (z - inside) / self.slope

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"alpha={self.alpha:g}"

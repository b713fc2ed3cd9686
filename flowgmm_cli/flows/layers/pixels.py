"""Layers for images that have no parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowgmm_cli.bijection import Bijection, zero_log_det


class Logit(Bijection):
    r"""Logit of pixels in [0, 1] (Dinh, Sohl-Dickstein and Bengio, 2017, section 4.1).

    .. math:: z = \mathrm{logit}(y), \quad y = a + (1 - 2a) x, \quad \frac{dz}{dx} = \frac{1 - 2a}{y (1 - y)}

    Below 0 and above 1, where noise or a view may put a number, the curve continues as its tangent. So the
    map is a bijection of all real numbers, with finite values and slopes.

    Args:
        alpha: a, above 0 and below 1/2; 0.05 in the paper.

    Examples:
        >>> import torch
        >>> logit = Logit(0.05)
        >>> x = torch.tensor([[0.0, 0.5, 1.0]])
        >>> torch.allclose(logit.inverse(logit(x)[0]), x, atol=1e-6)
        True
    """

    def __init__(self, alpha: float = 0.05) -> None:
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"`alpha` must lie between 0 and 1/2, got {alpha}")
        self.alpha = alpha
        self._end = math.log1p(-alpha) - math.log(alpha)  # z at x = 1; -z at x = 0
        self._slope = (1 - 2 * alpha) / (alpha * (1 - alpha))  # at both ends

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, ...)` to the same shape, with the log-determinant."""
        inside = x.clamp(0, 1)
        z = torch.logit(self.alpha + (1 - 2 * self.alpha) * inside)
        # -log y - log(1 - y); outside, the clamp holds it at the slope of the tangent
        log_slope = math.log1p(-2 * self.alpha) - logsigmoid(z) - logsigmoid(-z)
        return z + self._slope * (x - inside), log_slope.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        inside = z.clamp(-self._end, self._end)
        x = (torch.sigmoid(inside) - self.alpha) / (1 - 2 * self.alpha)
        return x + (z - inside) / self._slope


class Squeeze(Bijection):
    """Blocks of 2 by 2 pixels as channels: `(C, H, W)` to `(4 C, H / 2, W / 2)`.

    Space to depth (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.6). The four pixels of a block follow
    each other, each with all C channels, in the order upper left, lower right, upper right, lower left. So
    the first half of the channels holds one colour of a checkerboard and the second half the other: a channel
    coupling of the result is a checkerboard coupling of the image. The code of the paper has the same order;
    `pixel_unshuffle` has the pixels of a block innermost and row by row.

    Examples:
        >>> import torch
        >>> Squeeze()(torch.arange(4.0).reshape(1, 1, 2, 2))[0].flatten()
        tensor([0., 3., 1., 2.])
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Squeeze `(batch, C, H, W)` with even H and W; the log-determinant is 0."""
        n, channels, height, width = x.shape
        blocks = x.reshape(n, channels, height // 2, 2, width // 2, 2)
        pixels = [blocks[:, :, :, row, :, column] for row, column in ((0, 0), (1, 1), (0, 1), (1, 0))]
        return torch.cat(pixels, dim=1), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        n, channels, height, width = z.shape
        upper_left, lower_right, upper_right, lower_left = z.chunk(4, dim=1)
        upper = torch.stack([upper_left, upper_right], dim=4)
        lower = torch.stack([lower_left, lower_right], dim=4)
        return torch.stack([upper, lower], dim=3).reshape(n, channels // 4, 2 * height, 2 * width)


def row_order(channels: int) -> Tensor:
    """Order of squeezed channels that puts the even rows of the image before the odd ones, `(channels,)`.

    That is upper left, upper right, lower right, lower left. Its halves differ from those of the
    checkerboard, and it is its own inverse.
    """
    upper_left, lower_right, upper_right, lower_left = torch.arange(channels).chunk(4)
    return torch.cat([upper_left, upper_right, lower_right, lower_left])

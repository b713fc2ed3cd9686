"""Space to depth (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.6)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, zero_log_det


class Squeeze(Bijection):
    """Blocks of 2 by 2 pixels become channels: `(C, H, W)` to `(4 C, H / 2, W / 2)`.

    The four places of a block come one after the other, each with all its C channels, in the order upper
    left, lower right, upper right, lower left. So the first half of the new channels holds one colour of a
    checkerboard and the second half the other: a checkerboard coupling of the image is a channel coupling of
    what comes out here. (The order that the paper's own code uses to halve channels; `pixel_unshuffle` has
    the places innermost and row by row.)
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Squeeze `(batch, C, H, W)` with even H and W; the log-determinant is 0."""
        n, channels, height, width = x.shape
        blocks = x.reshape(n, channels, height // 2, 2, width // 2, 2)
        places = [blocks[:, :, :, row, :, column] for row, column in ((0, 0), (1, 1), (0, 1), (1, 0))]
        return torch.cat(places, dim=1), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        n, channels, height, width = z.shape
        upper_left, lower_right, upper_right, lower_left = z.chunk(4, dim=1)
        upper = torch.stack([upper_left, upper_right], dim=4)
        lower = torch.stack([lower_left, lower_right], dim=4)
        return torch.stack([upper, lower], dim=3).reshape(n, channels // 4, 2 * height, 2 * width)


def rows_first(channels: int) -> Tensor:
    """The order of `channels` squeezed channels that puts the even rows of the image before the odd ones.

    Upper left, upper right, lower right, lower left: its halves are others than those of the checkerboard,
    and it is its own inverse.
    """
    upper_left, lower_right, upper_right, lower_left = torch.arange(channels).chunk(4)
    return torch.cat([upper_left, upper_right, lower_right, lower_left])

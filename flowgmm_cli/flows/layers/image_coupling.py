"""Coupling of the two halves of an image's channels (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection
from flowgmm_cli.flows.layers.conditional import ConditionalMap
from flowgmm_cli.flows.layers.coupling import halves

MakeMap = Callable[[int, int], ConditionalMap]
"""A map of so many channels given and changed."""


class ImageCoupling(Bijection):
    """Maps one half of the channels of `(batch, channels, height, width)`, given the other half.

    This is the channel mask of the paper; behind a `Squeeze` it is the checkerboard mask too. The paper's
    checkerboard couplings run their networks on the whole image, half of it blanked out, and throw half of
    the result away; on the squeezed image, a quarter of the places, nothing is blanked or thrown away.

    Args:
        channels: at least 2; of an odd number the first half has one more.
        flip: change the first half (given the second) instead of the second.
        couple: makes the map, from the numbers of channels that are given and changed.
    """

    def __init__(self, channels: int, *, flip: bool = False, couple: MakeMap) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling needs at least 2 channels, got {channels}")
        self.channels = channels
        self.flip = flip
        first, second = (channels + 1) // 2, channels // 2
        self.couple = couple(second, first) if flip else couple(first, second)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, height, width)` to the same shape, with the log-determinant."""
        first, second = halves(x)
        if self.flip:
            first, log_slope = self.couple(first, second)
        else:
            second, log_slope = self.couple(second, first)
        return torch.cat([first, second], dim=1), log_slope.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        first, second = halves(z)
        if self.flip:
            first = self.couple.inverse(first, second)
        else:
            second = self.couple.inverse(second, first)
        return torch.cat([first, second], dim=1)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"channels={self.channels}, flip={self.flip}"

"""Feature dropping as a view."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.specs import DropConfig


class Drop:
    """Sets each feature of each row to 0 with probability `rate`.

    Transformed features have mean 0, so a dropped feature says nothing about its row. The others are not
    scaled up: the flow must see them as they are at prediction time.
    """

    def __init__(self, config: DropConfig) -> None:
        self.rate = config.rate

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of the shape of `x` with some features at 0."""
        kept = torch.empty_like(x).uniform_(generator=generator) >= self.rate
        return x * kept

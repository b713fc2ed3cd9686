"""Corruption from the marginals as a view (SCARF, Bahri et al., 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.specs import CorruptConfig


class Corrupt:
    """Replaces each feature of each row, with probability `rate`, by that of a random row of the batch."""

    def __init__(self, config: CorruptConfig) -> None:
        self.rate = config.rate

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of the shape of `x`, some features taken from other rows."""
        replaced = torch.empty_like(x).uniform_(generator=generator) < self.rate
        donors = torch.randint(max(1, len(x)), x.shape, generator=generator, device=x.device)
        return torch.where(replaced, x.gather(0, donors), x)

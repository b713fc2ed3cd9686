"""Views of feature vectors (noise, feature dropout, corruption) and of texts (word dropout)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.views.specs import CorruptConfig, DropConfig, DropWordsConfig, NoiseConfig


class Noise:
    """Adds independent noise N(0, scale^2) to every feature."""

    def __init__(self, config: NoiseConfig) -> None:
        self.scale = config.scale

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return noisy rows of the shape of `x`."""
        noise = torch.empty_like(x).normal_(generator=generator)
        return torch.add(x, noise, alpha=self.scale)


class Drop:
    """Sets each feature of each row to 0 with probability `rate`.

    Transformed features have mean 0, so a dropped feature carries no information about its row. The others
    are not scaled up: the flow must see them as they are at prediction time.
    """

    def __init__(self, config: DropConfig) -> None:
        self.rate = config.rate

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of the shape of `x` with some features at 0."""
        return x * (torch.empty_like(x).uniform_(generator=generator) >= self.rate)


class Corrupt:
    """Replaces each feature of each row, with probability `rate`, by that of a random row of the batch.

    SCARF (Bahri et al., 2022): the replacement is a draw from the marginal distribution of the feature.
    """

    def __init__(self, config: CorruptConfig) -> None:
        self.rate = config.rate

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows of the shape of `x`, some features taken from other rows."""
        mask = torch.empty_like(x).uniform_(generator=generator) < self.rate
        donors = torch.randint(max(1, len(x)), x.shape, generator=generator, device=x.device)
        return torch.where(mask, x.gather(0, donors), x)


class DropWords:
    """Removes each word with probability `rate`; at least one word of every text stays.

    Words are separated by white space, so a text in a script without spaces stays whole.
    """

    def __init__(self, config: DropWordsConfig) -> None:
        self.rate = config.rate

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, the remaining words joined by spaces."""
        result = []
        for text in texts:
            words = text.split()
            draws = generator.random(len(words))
            kept = " ".join(compress(words, draws >= self.rate))
            result.append(kept if kept or not words else words[int(draws.argmax())])
        return result

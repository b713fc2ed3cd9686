"""Base class of data transforms: bijections that are fitted once and then only applied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowgmm_cli.api import Config
from flowgmm_cli.bijection import Bijection


class Transform(Bijection):
    """A map of float64 feature matrices `(N, D)`, fitted on training rows.

    All fitted values are buffers, so a state dict holds all of them. A newly built transform takes the shape
    of a buffer from the state dict, since it may depend on the data.

    Args:
        config: the parameters.
        features: D.

    Attributes:
        in_features: D.
        mixes: True if an output depends on several inputs of a row. Otherwise output i depends on input i
            alone, and images stay images.
        random: True if `draw` differs from `forward`.
        fits: True if `fit` learns anything.
    """

    mixes: ClassVar[bool] = False
    random: ClassVar[bool] = False
    fits: ClassVar[bool] = True

    def __init__(self, config: Config, *, features: int) -> None:
        super().__init__()
        self.config = config
        self.in_features = features

    @property
    def out_features(self) -> int:
        """Number of output columns."""
        return self.in_features

    @property
    def inexact(self) -> str:
        """Reason that the map is not invertible and its density not that of the input; '' if it is."""
        return ""

    @abstractmethod
    def fit(self, x: Tensor) -> None:
        """Learn from training rows `x`, float64 `(N, D)`, finite, N >= 1."""

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Transform rows in a training step; a random map draws its noise from `generator`."""
        z: Tensor = self(x)[0]
        return z

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape != buffer.shape:
                self.register_buffer(name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the widths in a printed model."""
        return f"{self.in_features} -> {self.out_features}"


def column_std(x: Tensor) -> Tensor:
    """Return the standard deviation of each column `(D,)`: 0 where it is constant up to rounding."""
    std = x.std(dim=0, correction=0)
    largest = torch.maximum(x.amax(dim=0), -x.amin(dim=0))  # `x.abs()` would be as large as x
    rounding = 16 * torch.finfo(x.dtype).eps * largest
    return torch.where(std > rounding, std, torch.zeros_like(std))

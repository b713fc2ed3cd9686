"""What every data transform is: a bijection that is fitted once and then only applied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection


class Transform(Bijection):
    """A map of float64 feature matrices `(N, D)`, fitted on training rows.

    What it learned are buffers, so that a state dict holds all of it. Where their size depends on the data, a
    newly built transform takes the size from the state dict.

    Args:
        features: D.

    Attributes:
        in_features: D.
        mixes: whether a number of the result depends on several of a row; otherwise the i-th comes from the
            i-th, and images stay images.
        random: whether `draw` is something else than `forward`.
        fits: whether `fit` learns anything.
    """

    mixes: ClassVar[bool] = False
    random: ClassVar[bool] = False
    fits: ClassVar[bool] = True

    def __init__(self, features: int) -> None:
        super().__init__()
        self.in_features = features

    @property
    def out_features(self) -> int:
        """Number of columns of the result."""
        return self.in_features

    @property
    def inexact(self) -> str:
        """Why the map cannot be undone and the density is not that of its input; '' if it can and is."""
        return ""

    @property
    def exact(self) -> bool:
        """Whether the map is invertible, so that its log-det gives the density of its input."""
        return not self.inexact

    @abstractmethod
    def fit(self, x: Tensor) -> None:
        """Learn from training rows `x`, float64 `(N, D)`, finite, N >= 1."""

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """What a step of training makes of rows; where the map has noise in it, from `generator`."""
        z: Tensor = self(x)[0]
        return z

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.shape != buffer.shape:
                self.register_buffer(name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Show the shapes in a printed model."""
        return f"{self.in_features} -> {self.out_features}"


def spread(x: Tensor) -> Tensor:
    """Standard deviation of each column `(D,)`, exactly 0 where a column is constant up to rounding."""
    deviation = x.std(dim=0, correction=0)
    largest = torch.maximum(x.amax(dim=0), -x.amin(dim=0))  # `x.abs()` would be as large as x
    rounding = 16 * torch.finfo(x.dtype).eps * largest
    return torch.where(deviation > rounding, deviation, torch.zeros_like(deviation))

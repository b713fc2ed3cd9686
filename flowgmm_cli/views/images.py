"""Base class of the views of images, with the checks and random draws that they share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from flowgmm_cli.api import Config
from flowgmm_cli.data.images.format import MAX_CHANNELS
from flowgmm_cli.errors import RecipeError

ConfigT = TypeVar("ConfigT", bound=Config)


class ImageView(ABC, Generic[ConfigT]):
    """A random change of images; each image draws its own, the same for all of its channels.

    Args:
        config: parameters of the view.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; black is 0. Only changes of brightness use it.

    Raises:
        RecipeError: `shape` is not that of an image, or the channels come last.
    """

    name: ClassVar[str]

    def __init__(self, config: ConfigT, *, shape: tuple[int, ...], high: float) -> None:
        if len(shape) != 3 or not 1 <= shape[0] <= MAX_CHANNELS:
            raise RecipeError(
                f"the view `{self.name}` changes images, got entries of shape {shape}",
                hint=f"images have the shape (channels, height, width), with at most {MAX_CHANNELS} channels",
            )
        self.config = config
        self.channels, self.height, self.width = shape

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images of the shape of `x`, `(N, *shape)`."""
        # positions and sums over pixels need more than half precision
        images = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.change(images, generator).to(x.dtype)

    @abstractmethod
    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images; `x` `(N, *shape)`, at least float32, must stay as it is."""


def check_high(view: str, high: float) -> float:
    """Return `high`, the value of white, if it is above black.

    Raises:
        RecipeError: no pixel of the column is above 0, one is infinite, or one is below 0 (NaN).
    """
    if not 0 < high < math.inf:
        reason = "but some are below 0" if math.isnan(high) else f"which is {high:g}"
        raise RecipeError(
            f"the view `{view}` changes brightness between 0 (black) and the largest value of a pixel, "
            + reason,
            hint="scale the images so that black is 0 and white is above it, or remove the view from "
            "data.views",
        )
    return high


def draw_uniform(x: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Draw `count` numbers for each image, uniform between -1 and 1, as that many tensors `(N,)`."""
    draws = torch.empty(len(x), count, dtype=x.dtype, device=x.device)
    return draws.uniform_(-1, 1, generator=generator).unbind(1)


def broadcast_per_image(values: Tensor) -> Tensor:
    """Reshape numbers `(N,)` so that they broadcast against images `(N, C, H, W)`."""
    return values.reshape(-1, 1, 1, 1)

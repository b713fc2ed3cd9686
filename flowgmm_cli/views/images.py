"""What views of images share: checks of what they are built for, draws of each image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.data.image_shape import MOST_CHANNELS
from flowgmm_cli.errors import RecipeError


def check_shape(view: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return `shape` if it is one of images, `(channels, height, width)`.

    Args:
        view: its name, for the message.
        shape: of one entry of the column.

    Raises:
        RecipeError: it is not, or the channels come last.
    """
    if len(shape) != 3 or not 1 <= shape[0] <= MOST_CHANNELS:
        raise RecipeError(
            f"the view `{view}` changes images, got entries of shape {shape}",
            hint=f"images have the shape (channels, height, width), with at most {MOST_CHANNELS} channels",
        )
    return (shape[0], shape[1], shape[2])


def check_high(view: str, high: float) -> float:
    """Return `high`, the value of white, if there is any light at all.

    Raises:
        RecipeError: no pixel of the column is above 0, one is infinite, or one is below 0 (NaN).
    """
    if not 0 < high < math.inf:
        found = "but some are below 0" if math.isnan(high) else f"which is {high:g}"
        raise RecipeError(
            f"the view `{view}` changes brightness between 0 (black) and the largest value of a pixel, "
            + found,
            hint="scale the images so that black is 0 and white is above it, or take the view out of "
            "data.views",
        )
    return high


def working(x: Tensor) -> Tensor:
    """Images in at least float32: places in an image and sums over it need more than half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def spread(x: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """`count` numbers for each image, even between -1 and 1: as many tensors `(N,)`."""
    draws = torch.empty(len(x), count, dtype=x.dtype, device=x.device)
    return draws.uniform_(-1, 1, generator=generator).unbind(1)


def per_image(values: Tensor) -> Tensor:
    """Numbers `(N,)` in a form in which they meet images `(N, C, H, W)`."""
    return values.reshape(-1, 1, 1, 1)

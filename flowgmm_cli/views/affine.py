"""Small shifts, turns and changes of size of images as a view."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.views.images import check_shape, spread, working
from flowgmm_cli.views.specs import AffineConfig
from flowgmm_cli.views.warp import inverse_map, warp


class Affine:
    """Moves, turns, scales and shears each image at random, all in one interpolation.

    Linear interpolation smooths: an image between pixels has less of the finest detail than the original, and
    a flow gives smooth images a higher density. The range of the pixels stays as it is.

    Args:
        config: the largest changes; each image's are uniform up to them, the same for all of its channels.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; a move does not ask for it.

    Raises:
        RecipeError: `shape` is that of no image, or the channels come last.
    """

    def __init__(self, config: AffineConfig, *, shape: tuple[int, int, int], high: float) -> None:
        self.config = config
        self.shape = check_shape("affine", shape)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images of the shape of `x`, `(N, *shape)`."""
        config, images = self.config, working(x)
        right, down, angle, size, slant = spread(images, 5, generator)
        matrix = inverse_map(
            angle * math.radians(config.degrees),
            (size * math.log1p(config.zoom)).exp(),
            slant * math.tan(math.radians(config.shear)),
        )
        shift = torch.stack([right, down], dim=1) * config.pixels
        return warp(images, matrix, shift, padding=config.padding).to(x.dtype)

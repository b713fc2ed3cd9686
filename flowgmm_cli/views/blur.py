"""Gaussian blur of images as a view."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.views.images import check_shape, spread, working
from flowgmm_cli.views.specs import BlurConfig

_REACH = 3.0  # standard deviations, beyond which there is 0.3 % of the weight
_SHARP = 1e-3  # pixels; a smaller standard deviation leaves images as they are in any precision


class Blur:
    """Blurs each image with a Gaussian of its own width; the edges are continued.

    The density under a flow of pixels goes up with the width: it is the finest detail that costs most bits.

    Args:
        config: the largest standard deviation, in pixels; each image's is uniform up to it.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; a mean of pixels does not ask for it.

    Raises:
        RecipeError: `shape` is that of no image.
    """

    def __init__(self, config: BlurConfig, *, shape: tuple[int, int, int], high: float) -> None:
        check_shape("blur", shape)
        self.config = config

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return blurred images of the shape of `x`, `(N, *shape)`."""
        images = working(x)
        (draw,) = spread(images, 1, generator)
        radius = max(1, math.ceil(_REACH * self.config.sigma))
        return gaussian_blur(images, draw.abs() * self.config.sigma, radius=radius).to(x.dtype)


def gaussian_blur(x: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Average each image with Gaussian weights, first along columns, then along rows.

    Args:
        x: images `(N, C, H, W)`, at least float32; outside lies the nearest pixel.
        sigma: standard deviations in pixels, `(N,)`.
        radius: how many pixels away the weights end.
    """
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = (steps / sigma.clamp(min=_SHARP)[:, None]).square().mul(-0.5).softmax(1)
    down, across = (_mixing(weights, radius, size) for size in x.shape[-2:])
    return down @ x @ across.mT


def _mixing(weights: Tensor, radius: int, size: int) -> Tensor:
    """What each pixel along a side contributes to each, `(N, 1, size, size)`.

    Of small images a product with it takes a fraction of the time of a sum of shifted ones.
    """
    place = torch.arange(size, device=weights.device)
    steps = torch.arange(-radius, radius + 1, device=weights.device)
    source = (place[:, None] + steps[:, None, None]).clamp(0, size - 1)
    taken = (source == place).to(weights.dtype)
    return (weights @ taken.flatten(1)).reshape(-1, 1, size, size)

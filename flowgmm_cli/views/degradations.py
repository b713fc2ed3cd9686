"""Views that remove detail from images: Gaussian blur and cutout."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.views.images import ImageView, check_high, draw_uniform
from flowgmm_cli.views.specs import BlurConfig, CutoutConfig

_TRUNCATE = 3.0  # standard deviations; 0.3 % of the weight lies beyond
_MIN_SIGMA = 1e-3  # pixels; a smaller standard deviation leaves images as they are in any precision


class Blur(ImageView[BlurConfig]):
    """Blurs each image with a Gaussian of a random width; the edges are continued.

    The density under a flow of pixels rises with the width, since the finest detail costs the most bits.
    """

    name = "blur"

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return blurred images."""
        (draw,) = draw_uniform(x, 1, generator)
        radius = max(1, math.ceil(_TRUNCATE * self.config.sigma))
        return gaussian_blur(x, draw.abs() * self.config.sigma, radius=radius)


class Cutout(ImageView[CutoutConfig]):
    """Hides squares of each image (DeVries and Taylor, 2017); squares that reach over an edge hide less.

    The centre of a square is a uniformly drawn pixel. A flow of pixels finds even patches likely and their
    edges unlikely: the density of an image with a large square rises, however little is left of the class.

    Raises:
        RecipeError: also if grey is the same as black.
    """

    name = "cutout"

    def __init__(self, config: CutoutConfig, *, shape: tuple[int, ...], high: float) -> None:
        super().__init__(config, shape=shape, high=high)
        self.side = max(1, round(config.side * min(self.height, self.width)))
        self.grey = check_high(self.name, high) / 2 if config.fill == "grey" else 0.0

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with some pixels hidden."""
        rows = self._draw_intervals(x, self.height, generator)
        columns = self._draw_intervals(x, self.width, generator)
        hidden = (rows[:, :, :, None] & columns[:, :, None, :]).any(1)[:, None]
        if self.config.fill == "mean":
            return torch.where(hidden, x.mean((2, 3), keepdim=True), x)
        return x.masked_fill(hidden, self.grey)

    def _draw_intervals(self, x: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Return masks of the pixels along one side that each square covers, `(N, count, size)`."""
        start = torch.randint(size, (len(x), self.config.count, 1), generator=generator, device=x.device)
        start = start - self.side // 2
        position = torch.arange(size, device=x.device)
        return (position >= start) & (position < start + self.side)


def gaussian_blur(x: Tensor, sigma: Tensor, *, radius: int) -> Tensor:
    """Average each of the images `(N, C, H, W)` with Gaussian weights, first along columns, then along rows.

    `sigma` are standard deviations in pixels, `(N,)`; `radius` is the number of pixels on either side that
    have weight. The nearest pixel continues an image beyond its edges.
    """
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    weights = (steps / sigma.clamp(min=_MIN_SIGMA)[:, None]).square().mul(-0.5).softmax(1)
    rows, columns = (_blur_matrix(weights, radius, size) for size in x.shape[-2:])
    return rows @ x @ columns.mT


def _blur_matrix(weights: Tensor, radius: int, size: int) -> Tensor:
    """Return the weight of each pixel along a side in each blurred pixel, `(N, 1, size, size)`.

    For small images a product with it takes a fraction of the time of a sum of shifted images.
    """
    position = torch.arange(size, device=weights.device)
    steps = torch.arange(-radius, radius + 1, device=weights.device)
    source = (position[:, None] + steps[:, None, None]).clamp(0, size - 1)
    selection = (source == position).to(weights.dtype)
    return (weights @ selection.flatten(1)).reshape(-1, 1, size, size)

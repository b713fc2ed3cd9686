"""A window of an image as a view: shifts by whole pixels, and random resized crops."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.views.images import check_shape, spread, working
from flowgmm_cli.views.specs import CropConfig
from flowgmm_cli.views.warp import grid, look_up


class Crop:
    """Cuts a window out of each image, somewhere within `pixels` of its edges, and shows it at full size.

    Without `area` and `stretch` the window has the size of the image: a shift by whole pixels, without
    interpolation, as in the augmentation of FlowGMM (Izmailov et al., 2020). With them it is the random
    resized crop of Szegedy et al. (2015), with linear interpolation; an enlarged image is smoother than the
    original, and a flow gives it a higher density. Black that moves in is as likely as black elsewhere.

    Args:
        config: of the windows; width and height are measured in those of the image.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; a move does not ask for it.

    Raises:
        RecipeError: `shape` is that of no image.
    """

    def __init__(self, config: CropConfig, *, shape: tuple[int, int, int], high: float) -> None:
        _, self.height, self.width = check_shape("crop", shape)
        self.config = config

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return windows of the shape of `x`, `(N, *shape)`."""
        config = self.config
        if config.area == 1 and config.stretch == 1:
            most = config.pixels
            moves = torch.randint(-most, most + 1, (2, len(x)), generator=generator, device=x.device)
            return shift_pixels(x, moves[0], moves[1], padding=config.padding)
        images = working(x)
        share, ratio, right, down = spread(images, 4, generator)
        share = config.area + (1 - config.area) * (share + 1) / 2
        ratio = (ratio * math.log(config.stretch)).exp()
        wide, tall = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
        zero = torch.zeros_like(wide)
        matrix = torch.stack([wide, zero, zero, tall], dim=1).reshape(-1, 2, 2)
        right = right * ((1 - wide) * (self.width / 2) + config.pixels)
        down = down * ((1 - tall) * (self.height / 2) + config.pixels)
        places = grid(matrix, torch.stack([right, down], dim=1), (self.height, self.width))
        return look_up(images, places, padding=config.padding).to(x.dtype)


def shift_pixels(x: Tensor, right: Tensor, down: Tensor, *, padding: str = "zeros") -> Tensor:
    """Move images by whole pixels, exactly.

    Args:
        x: images `(N, C, H, W)`.
        right: int64 `(N,)`, in pixels.
        down: the same.
        padding: what lies outside, see `warp`.
    """
    height, width = x.shape[-2:]
    rows, no_row = _sources(down, height, padding)
    columns, no_column = _sources(right, width, padding)
    places = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    moved = x.flatten(2).gather(2, places[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)
    if padding != "zeros":
        return moved
    return moved.masked_fill((no_row[:, :, None] | no_column[:, None, :])[:, None], 0)


def _sources(shift: Tensor, size: int, padding: str) -> tuple[Tensor, Tensor]:
    """Where along a side each pixel comes from, `(N, size)`, and whether that is outside of the image."""
    source = torch.arange(size, device=shift.device) - shift[:, None]
    outside = (source < 0) | (source >= size)
    if padding == "reflection":
        source = source % (2 * size)
        source = torch.minimum(source, 2 * size - 1 - source)
    return source.clamp(0, size - 1), outside

"""Changes of brightness, contrast, saturation and hue as a view."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.colours import COLOURED, brightness, contrast, hue, saturation
from flowgmm_cli.views.images import check_high, check_shape, spread, working
from flowgmm_cli.views.specs import ColourConfig


class Colour:
    """Changes brightness, contrast, saturation and hue of each image at random, in this order.

    Of grey images only brightness and contrast change. Darker and paler images tend to have a higher density
    under a flow, since their values lie closer together; values beyond black and white are cut off.

    Args:
        config: the largest changes; each image's are uniform up to them.
        shape: of one image, `(channels, height, width)`, with one channel or three.
        high: the value of white.

    Raises:
        RecipeError: `shape` is that of no grey or red-green-blue image, or all images are black.
    """

    def __init__(self, config: ColourConfig, *, shape: tuple[int, int, int], high: float) -> None:
        channels, *_ = check_shape("colour", shape)
        if channels not in (1, COLOURED):
            raise RecipeError(
                f"the view `colour` changes images of 1 channel (grey) or {COLOURED} (red, green, blue), "
                f"got {channels}",
                hint="leave out the other channels, or take the view out of data.views",
            )
        self.config = config
        self.coloured = channels == COLOURED
        self.high = check_high("colour", high)

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the shape of `x`, `(N, *shape)`, with values between 0 and `high`."""
        config, high, images = self.config, self.high, working(x)
        light, depth, pale, turn = spread(images, 4, generator)
        images = brightness(images, 1 + light * config.brightness, high=high)
        images = contrast(images, 1 + depth * config.contrast, high=high)
        if self.coloured and config.saturation:
            images = saturation(images, 1 + pale * config.saturation, high=high)
        if self.coloured and config.hue:
            images = hue(images, turn * config.hue)
        return images.to(x.dtype)

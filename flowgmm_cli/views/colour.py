"""Changes of brightness and colour, and the view that makes them.

The functions are Pillow's operations for batches, each image with a factor of its own. `x` are images
`(N, C, H, W)`, at least float32, with values from 0 (black) to `high` (white); three channels are red, green
and blue. `factor` are numbers `(N,)`; 1 leaves an image as it is. Results are clipped to 0 and `high`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.images import ImageView, broadcast_per_image, check_high, draw_uniform
from flowgmm_cli.views.specs import ColourConfig

RGB_CHANNELS = 3
_LEVELS = 256
_ROUNDING = 1e-3  # steps; added before rounding down: rounding errors leave whole numbers a little too small


class Colour(ImageView[ColourConfig]):
    """Changes brightness, contrast, saturation and hue of each image at random, in this order.

    In grey images only brightness and contrast change. Darker and paler images tend to have a higher density
    under a flow, since their values lie closer together; values beyond black and white are clipped.

    Raises:
        RecipeError: also if there are neither one nor three channels, or all images are black.
    """

    name = "colour"

    def __init__(self, config: ColourConfig, *, shape: tuple[int, ...], high: float) -> None:
        super().__init__(config, shape=shape, high=high)
        if self.channels not in (1, RGB_CHANNELS):
            raise RecipeError(
                f"the view `colour` changes images of 1 channel (grey) or {RGB_CHANNELS} (red, green, blue), "
                f"got {self.channels}",
                hint="leave out the other channels, or remove the view from data.views",
            )
        self.is_rgb = self.channels == RGB_CHANNELS
        self.high = check_high(self.name, high)

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with values between 0 and `high`."""
        config, high = self.config, self.high
        draws = draw_uniform(x, 4, generator)
        x = brightness(x, 1 + draws[0] * config.brightness, high=high)
        x = contrast(x, 1 + draws[1] * config.contrast, high=high)
        if self.is_rgb and config.saturation:
            x = saturation(x, 1 + draws[2] * config.saturation, high=high)
        if self.is_rgb and config.hue:
            x = hue(x, draws[3] * config.hue)
        return x


def brightness(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with black."""
    return (x * broadcast_per_image(factor)).clamp(0, high)


def contrast(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with the mean luminance of the image."""
    return _blend(luminance(x).mean((2, 3), keepdim=True), x, factor, high)


def saturation(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with the grey image of the same luminance."""
    return _blend(luminance(x), x, factor, high)


def sharpness(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with a smoothed image; the outermost pixels stay as they are."""
    if min(x.shape[-2:]) < 3:
        return x.clone()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    inner = x[:, :, 1:-1, 1:-1]
    nine = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    sharp = x.clone()
    sharp[:, :, 1:-1, 1:-1] = _blend((nine + 4 * inner) / 13, inner, factor, high)
    return sharp


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Rotate the colours of images of three channels on the hue circle of HSV.

    `turn` is the share of the whole circle, `(N,)`; 1/3 turns red into green.
    """
    value = x.amax(1)
    chroma = value - x.amin(1)
    red, green, blue = x.unbind(1)
    # thirds of the circle in which red, green or blue is the largest; the hue of a grey pixel does not matter
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        red == value,
        (green - blue) / safe,
        torch.where(green == value, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * turn[:, None, None]
    phases = [(start + sixth) % 6 for start in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in phases], dim=1)


def posterise(x: Tensor, bits: Tensor, *, high: float) -> Tensor:
    """Keep only the `bits` (N,) most significant of 8 bits of each value, rounding down."""
    step = broadcast_per_image((8 - bits).exp2()) * (high / (_LEVELS - 1))
    return ((x / step + _ROUNDING).floor() * step).clamp(0, high)


def solarise(x: Tensor, threshold: Tensor, *, high: float) -> Tensor:
    """Invert the values above `threshold`, `(N,)`."""
    return torch.where(x > broadcast_per_image(threshold), high - x, x)


def autocontrast(x: Tensor, *, high: float) -> Tensor:
    """Stretch each channel to the whole range; a channel of a single value stays as it is."""
    low, top = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    extent = top - low
    flat = extent <= 0
    scale = high / torch.where(flat, torch.ones_like(extent), extent)
    return torch.where(flat, x, ((x - low) * scale).clamp(0, high))


def equalise(x: Tensor, *, high: float) -> Tensor:
    """Spread the values of each channel evenly over the range, by a histogram of 256, as Pillow does."""
    scale = high / (_LEVELS - 1)
    values = (x / scale).round().clamp(0, _LEVELS - 1).long().flatten(2)
    counts = torch.zeros(*x.shape[:2], _LEVELS, dtype=torch.int64, device=x.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    step = (values.shape[2] - counts.gather(2, values.amax(2, keepdim=True))) // (_LEVELS - 1)
    below = counts.cumsum(2) - counts
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=_LEVELS - 1)
    return torch.where(step[..., None] > 0, table.gather(2, values).reshape(x.shape) * scale, x)


def luminance(x: Tensor) -> Tensor:
    """Return the brightness of pixels, `(N, 1, H, W)`; of three channels by the weights of ITU-R BT.601."""
    if x.shape[1] != RGB_CHANNELS:
        return x.mean(1, keepdim=True)
    red, green, blue = x.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _blend(base: Tensor, x: Tensor, factor: Tensor, high: float) -> Tensor:
    return torch.lerp(base, x, broadcast_per_image(factor)).clamp(0, high)

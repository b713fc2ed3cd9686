"""Changes of brightness and colour, each image by a factor of its own: Pillow's operations for batches.

`x` are images `(N, C, H, W)`, at least float32, with values from 0 (black) to `high` (white); three channels
are red, green and blue. `factor` are numbers `(N,)`; 1 leaves an image as it is. The results are cut off at 0
and `high`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.images import per_image

COLOURED = 3
_LEVELS = 256
_HAIR = 1e-3  # steps; what rounding may take from a value that is a whole number of them


def brightness(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with black."""
    return (x * per_image(factor)).clamp(0, high)


def contrast(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with the mean luminance of the image."""
    return _blend(luminance(x).mean((2, 3), keepdim=True), x, factor, high)


def saturation(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with the grey image of the same luminance."""
    return _blend(luminance(x), x, factor, high)


def sharpness(x: Tensor, factor: Tensor, *, high: float) -> Tensor:
    """Blend with a smoothed image; the outermost pixels stay, and so do images without others."""
    if min(x.shape[-2:]) < 3:
        return x.clone()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    inner = x[:, :, 1:-1, 1:-1]
    nine = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]
    sharp = x.clone()
    sharp[:, :, 1:-1, 1:-1] = _blend((nine + 4 * inner) / 13, inner, factor, high)
    return sharp


def hue(x: Tensor, turn: Tensor) -> Tensor:
    """Turn the colours of images of three channels round the circle of hues of HSV.

    Args:
        x: see above.
        turn: share of the whole circle, `(N,)`; 1/3 makes green of red.
    """
    value, least = x.amax(1), x.amin(1)
    chroma = value - least
    red, green, blue = x.unbind(1)
    # thirds of the circle in which red, green or blue is the largest; of a grey pixel any will do
    safe = torch.where(chroma > 0, chroma, torch.ones_like(chroma))
    sixth = torch.where(
        red == value,
        (green - blue) / safe,
        torch.where(green == value, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sixth = sixth + 6 * turn[:, None, None]
    places = [(start + sixth) % 6 for start in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in places], dim=1)


def posterise(x: Tensor, bits: Tensor, *, high: float) -> Tensor:
    """Keep only the `bits` (N,) most significant of 8 bits of each value, rounding down."""
    step = per_image((8 - bits).exp2()) * (high / (_LEVELS - 1))
    return ((x / step + _HAIR).floor() * step).clamp(0, high)


def solarise(x: Tensor, threshold: Tensor, *, high: float) -> Tensor:
    """Invert the values above `threshold`, `(N,)`."""
    return torch.where(x > per_image(threshold), high - x, x)


def autocontrast(x: Tensor, *, high: float) -> Tensor:
    """Stretch each channel to the whole range; one of a single value stays."""
    least, most = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    extent = most - least
    flat = extent <= 0
    scale = high / torch.where(flat, torch.ones_like(extent), extent)
    return torch.where(flat, x, ((x - least) * scale).clamp(0, high))


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
    """How bright pixels are, `(N, 1, H, W)`; for three channels by the weights of ITU-R BT.601."""
    if x.shape[1] != COLOURED:
        return x.mean(1, keepdim=True)
    red, green, blue = x.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]


def _blend(base: Tensor, x: Tensor, factor: Tensor, high: float) -> Tensor:
    return torch.lerp(base, x, per_image(factor)).clamp(0, high)

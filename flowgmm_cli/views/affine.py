"""Small shifts, turns and changes of size of images as a view."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.specs import AffineConfig

_MOST_CHANNELS = 4


class Affine:
    """Moves, turns, scales and shears each image at random, all in one interpolation.

    Args:
        config: the largest changes; each row's are uniform up to them.
        shape: of one image: `(height, width)`, or `(channels, height, width)` with the same change for all
            channels.

    Raises:
        RecipeError: `shape` is that of no image, or the channels come last.
    """

    def __init__(self, config: AffineConfig, *, shape: tuple[int, ...], high: float = 1.0) -> None:
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] > _MOST_CHANNELS):
            raise RecipeError(
                f"the view `affine` changes images, got entries of shape {shape}",
                hint="images have the shape (height, width) or (channels, height, width), "
                f"with at most {_MOST_CHANNELS} channels",
            )
        self.config = config
        self.shape = shape

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images of the shape of `x`, `(N, *shape)`."""
        config = self.config
        largest = (
            config.pixels,
            config.pixels,
            math.radians(config.degrees),
            math.log1p(config.zoom),
            math.tan(math.radians(config.shear)),
        )
        draws = torch.empty(len(x), len(largest), dtype=x.dtype, device=x.device)
        right, down, angle, size, slant = draws.uniform_(-1, 1, generator=generator).unbind(1)
        shift = torch.stack([right * largest[0], down * largest[1]], dim=1)
        return warp(
            x,
            inverse_map(angle * largest[2], (size * largest[3]).exp(), slant * largest[4]),
            shift,
            padding=config.padding,
        )


def inverse_map(angle: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """Where in the original the pixels of the changed image lie, relative to the centre.

    Args:
        angle: turn in radians, clockwise as seen, `(N,)`.
        zoom: factor on the size, `(N,)`.
        shear: shift to the right per pixel down, `(N,)`, before the turn.

    Returns:
        Matrices for `(x, y)` in pixels, `(N, 2, 2)`.
    """
    cos, sin = angle.cos(), angle.sin()
    # (turn @ shear @ zoom)^-1
    rows = [cos + shear * sin, sin - shear * cos, -sin, cos]
    return (torch.stack(rows, dim=1) / zoom[:, None]).reshape(-1, 2, 2)


def warp(x: Tensor, matrix: Tensor, shift: Tensor, *, padding: str = "zeros") -> Tensor:
    """Move images, interpolating linearly between pixels.

    Args:
        x: images `(N, H, W)` or `(N, C, H, W)`.
        matrix: see `inverse_map`, `(N, 2, 2)`.
        shift: right and down, in pixels, `(N, 2)`.
        padding: what lies outside: `zeros`, `border` (the nearest pixel) or `reflection`.
    """
    if not len(x):
        return x.clone()
    height, width = x.shape[-2:]
    xx, xy, yx, yy = matrix.flatten(1).unbind(1)
    right, down = shift.unbind(1)
    # `affine_grid` wants coordinates in which either side goes from -1 to 1
    to_x = [xx, xy * (height / width), (xx * right + xy * down) * (-2 / width)]
    to_y = [yx * (width / height), yy, (yx * right + yy * down) * (-2 / height)]
    theta = torch.stack(to_x + to_y, dim=1).reshape(-1, 2, 3)
    images = x if x.ndim == 4 else x[:, None]
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return moved.reshape(x.shape)

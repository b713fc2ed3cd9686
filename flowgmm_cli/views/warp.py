"""Moving the pixels of images, each image in its own way."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
    """Turn, scale and slant images about their centre, then move them; linear between pixels.

    Args:
        x: images `(N, C, H, W)`, at least float32.
        matrix: see `inverse_map`, `(N, 2, 2)`.
        shift: right and down, in pixels, `(N, 2)`.
        padding: what lies outside: `zeros`, `border` (the nearest pixel) or `reflection`.
    """
    offset = -(matrix * shift[:, None, :]).sum(2)
    return look_up(x, grid(matrix, offset, x.shape[-2:]), padding=padding)


def grid(matrix: Tensor, offset: Tensor, size: tuple[int, ...]) -> Tensor:
    """Places `matrix @ q + offset` of the pixels q of an image, as `look_up` wants them.

    Args:
        matrix: for `(x, y)` in pixels from the centre, `(N, 2, 2)`.
        offset: in pixels, `(N, 2)`.
        size: height and width.

    Returns:
        `(N, H, W, 2)`; either side of the image goes from -1 to 1.
    """
    height, width = size
    xx, xy, yx, yy = matrix.flatten(1).unbind(1)
    right, down = offset.unbind(1)
    to_x = [xx, xy * (height / width), right * (2 / width)]
    to_y = [yx * (width / height), yy, down * (2 / height)]
    by_column, by_row, move = torch.stack(to_x + to_y, dim=1).reshape(-1, 1, 1, 2, 3).unbind(4)
    # a sum of what a column and what a row contributes is less work than a product of matrices at every pixel
    return by_column * centres(width, matrix)[:, None] + (
        by_row * centres(height, matrix)[:, None, None] + move
    )


def centres(count: int, like: Tensor) -> Tensor:
    """The middle of each pixel along a side that goes from -1 to 1, `(count,)`, on the device of `like`."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) * 2 + (1 - count)) / count


def look_up(x: Tensor, places: Tensor, *, padding: str = "zeros") -> Tensor:
    """Images with the values that `x` has at `places`, linear between pixels.

    Args:
        x: images `(N, C, H, W)`, at least float32.
        places: `(N, H, W, 2)`, see `grid`.
        padding: see `warp`.
    """
    if not len(x):
        return x.clone()
    return F.grid_sample(x, places, mode="bilinear", padding_mode=padding, align_corners=False)

"""Views that move the pixels of images: affine maps, elastic distortions, crops and flips.

Interpolation between pixels smooths: an interpolated image has less of the finest detail than the original,
and a flow gives smooth images a higher density.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.views.images import ImageView, broadcast_per_image, draw_uniform
from flowgmm_cli.views.specs import AffineConfig, CropConfig, ElasticConfig, FlipConfig


class Affine(ImageView[AffineConfig]):
    """Shifts, rotates, scales and shears each image at random, all in one interpolation.

    The range of the pixels does not change.
    """

    name = "affine"

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return interpolated images."""
        config = self.config
        right, down, angle, zoom, shear = draw_uniform(x, 5, generator)
        matrix = inverse_matrix(
            angle * math.radians(config.degrees),
            (zoom * math.log1p(config.zoom)).exp(),
            shear * math.tan(math.radians(config.shear)),
        )
        shift = torch.stack([right, down], dim=1) * config.pixels
        return warp(x, matrix, shift, padding=config.padding)


class Elastic(ImageView[ElasticConfig]):
    """Distorts each image by a smooth random field of displacements (Simard et al., 2003).

    The displacements are drawn at `knots` times `knots` points, evenly placed from corner to corner of the
    image, and interpolated cubically in between. Simard et al. smooth a field with a number for each pixel
    instead, which is equivalent and more work.
    """

    name = "elastic"

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return distorted images."""
        knots = self.config.knots
        draws = x.new_empty(len(x), 2, knots, knots)
        field = draws.uniform_(-1, 1, generator=generator) * self.config.pixels
        # equals `interpolate` on the field itself, which takes several times as long
        by_row, by_column = (_cubic_weights(knots, size, x) for size in (self.height, self.width))
        right, down = (by_row @ field @ by_column.T).unbind(1)
        columns = pixel_centres(self.width, x) + right * (2 / self.width)
        rows = pixel_centres(self.height, x)[:, None] + down * (2 / self.height)
        grid = torch.stack([columns, rows], dim=3)
        return sample_pixels(x, grid, padding=self.config.padding)


class Crop(ImageView[CropConfig]):
    """Cuts a window out of each image, up to `pixels` beyond its edges, and scales it to full size.

    Without `area` and `stretch` the window has the size of the image: a shift by whole pixels, without
    interpolation, as in the augmentation of FlowGMM (Izmailov et al., 2020). With them it is the random
    resized crop of Szegedy et al. (2015), with linear interpolation.
    """

    name = "crop"

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the windows."""
        config, limit = self.config, self.config.pixels
        if config.area == 1 and config.stretch == 1:
            shift = torch.randint(-limit, limit + 1, (2, len(x)), generator=generator, device=x.device)
            return shift_pixels(x, shift[0], shift[1], padding=config.padding)
        area, ratio, right, down = draw_uniform(x, 4, generator)
        area = config.area + (1 - config.area) * (area + 1) / 2
        ratio = (ratio * math.log(config.stretch)).exp()
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        matrix = torch.diag_embed(torch.stack([width, height], dim=1))
        right = right * ((1 - width) * (self.width / 2) + limit)
        down = down * ((1 - height) * (self.height / 2) + limit)
        grid = affine_grid(matrix, torch.stack([right, down], dim=1), (self.height, self.width))
        return sample_pixels(x, grid, padding=config.padding)


class Flip(ImageView[FlipConfig]):
    """Mirrors each image with the given probabilities, left to right and top to bottom.

    Pixels keep their exact values. Where mirror images are as common as the originals, as among photographs,
    the density stays about the same; elsewhere they are unlikely images.
    """

    name = "flip"

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images, some of them mirrored."""
        columns, rows = torch.empty(2, len(x), device=x.device).uniform_(generator=generator).unbind(0)
        x = torch.where(broadcast_per_image(columns < self.config.horizontal), x.flip(3), x)
        return torch.where(broadcast_per_image(rows < self.config.vertical), x.flip(2), x)


def inverse_matrix(angle: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """Compute the matrices that map pixels of the changed images to the original ones, about the centre.

    `angle` is the clockwise rotation in radians, `zoom` the factor on the size and `shear` the shift to the
    right per pixel down before the rotation, all `(N,)`. The result, `(N, 2, 2)`, is for `(x, y)` in pixels.
    """
    cos, sin = angle.cos(), angle.sin()
    # (rotation @ shear @ zoom)^-1
    rows = [cos + shear * sin, sin - shear * cos, -sin, cos]
    return (torch.stack(rows, dim=1) / zoom[:, None]).reshape(-1, 2, 2)


def warp(x: Tensor, matrix: Tensor, shift: Tensor, *, padding: str = "zeros") -> Tensor:
    """Apply a linear map about the centre of each image, then a shift, with linear interpolation.

    `x` are images `(N, C, H, W)`, at least float32, `matrix` is that of `inverse_matrix`, `(N, 2, 2)`, and
    `shift` goes right and down, in pixels, `(N, 2)`. `padding` gives the values outside the image: `zeros`,
    `border` (the nearest pixel) or `reflection`.
    """
    offset = -(matrix * shift[:, None, :]).sum(2)
    return sample_pixels(x, affine_grid(matrix, offset, x.shape[-2:]), padding=padding)


def affine_grid(matrix: Tensor, offset: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the positions `matrix @ q + offset` of the pixels q of an image, for `sample_pixels`.

    `matrix` `(N, 2, 2)` and `offset` `(N, 2)` are for `(x, y)` in pixels from the centre, `size` is height
    and width. The positions are `(N, H, W, 2)`; either side of the image goes from -1 to 1.
    """
    height, width = size
    xx, xy, yx, yy = matrix.flatten(1).unbind(1)
    right, down = offset.unbind(1)
    to_x = [xx, xy * (height / width), right * (2 / width)]
    to_y = [yx * (width / height), yy, down * (2 / height)]
    by_column, by_row, move = torch.stack(to_x + to_y, dim=1).reshape(-1, 1, 1, 2, 3).unbind(4)
    # a term for columns plus a term for rows: a quarter of the time of `torch.nn.functional.affine_grid`
    columns, rows = pixel_centres(width, matrix)[:, None], pixel_centres(height, matrix)[:, None, None]
    return by_column * columns + (by_row * rows + move)


def pixel_centres(count: int, like: Tensor) -> Tensor:
    """Return the centres of the pixels along a side from -1 to 1, `(count,)`, on the device of `like`."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) * 2 + (1 - count)) / count


def sample_pixels(x: Tensor, grid: Tensor, *, padding: str = "zeros") -> Tensor:
    """Return the values of images `(N, C, H, W)` at positions `grid` `(N, H, W, 2)`, linear between pixels.

    See `affine_grid` for the positions and `warp` for the `padding`.
    """
    if not len(x):
        return x.clone()
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def shift_pixels(x: Tensor, right: Tensor, down: Tensor, *, padding: str = "zeros") -> Tensor:
    """Shift images `(N, C, H, W)` by whole pixels `right` and `down`, int64 `(N,)`, without interpolation.

    See `warp` for the `padding`.
    """
    height, width = x.shape[-2:]
    rows, no_row = _source_index(down, height, padding)
    columns, no_column = _source_index(right, width, padding)
    index = (rows[:, :, None] * width + columns[:, None, :]).flatten(1)
    shifted = x.flatten(2).gather(2, index[:, None].expand(-1, x.shape[1], -1)).reshape(x.shape)
    if padding != "zeros":
        return shifted
    return shifted.masked_fill((no_row[:, :, None] | no_column[:, None, :])[:, None], 0)


def _source_index(shift: Tensor, size: int, padding: str) -> tuple[Tensor, Tensor]:
    """Return the source of each pixel along a side, `(N, size)`, and a mask of sources outside the image."""
    source = torch.arange(size, device=shift.device) - shift[:, None]
    outside = (source < 0) | (source >= size)
    if padding == "reflection":
        source = source % (2 * size)
        source = torch.minimum(source, 2 * size - 1 - source)
    return source.clamp(0, size - 1), outside


def _cubic_weights(knots: int, size: int, like: Tensor) -> Tensor:
    """Return the weight of each knot in each pixel along a side, `(size, knots)`."""
    unit = torch.eye(knots, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(unit, (size, knots), mode="bicubic", align_corners=True)[0, 0]

"""Views that move the pixels of images: affine maps, elastic distortions, crops and flips.

Interpolation between pixels smooths: an interpolated image has less of the finest detail than the original,
and a flow gives smooth images a higher density.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.views.images import ImageView, broadcast_per_image, draw_uniform, promote
from flowgmm_cli.views.specs import AffineConfig, CropConfig, ElasticConfig, FlipConfig


class Affine(ImageView[AffineConfig]):
    """Shifts, rotates, scales and shears each image at random, all in one interpolation.

    The range of the pixels does not change.
    """

    name = "affine"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return changed images of the shape of `x`, `(N, *shape)`."""
        config, images = self.config, promote(x)
        right, down, angle, zoom, shear = draw_uniform(images, 5, generator)
        matrix = inverse_matrix(
            angle * math.radians(config.degrees),
            (zoom * math.log1p(config.zoom)).exp(),
            shear * math.tan(math.radians(config.shear)),
        )
        shift = torch.stack([right, down], dim=1) * config.pixels
        return warp(images, matrix, shift, padding=config.padding).to(x.dtype)


class Elastic(ImageView[ElasticConfig]):
    """Distorts each image by a smooth random field of displacements (Simard et al., 2003).

    The displacements are drawn at `knots` times `knots` points, evenly placed from corner to corner of the
    image, and interpolated cubically in between. Simard et al. smooth a field with a number for each pixel
    instead, which is equivalent and more work.
    """

    name = "elastic"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return distorted images of the shape of `x`, `(N, *shape)`."""
        images, knots = promote(x), self.config.knots
        draws = torch.empty(len(x), 2, knots, knots, dtype=images.dtype, device=x.device)
        field = draws.uniform_(-1, 1, generator=generator) * self.config.pixels
        # equals `interpolate` on the field itself, which takes several times as long
        by_row, by_column = (_cubic_weights(knots, size, images) for size in (self.height, self.width))
        right, down = (by_row @ field @ by_column.T).unbind(1)
        columns = pixel_centres(self.width, images) + right * (2 / self.width)
        rows = pixel_centres(self.height, images)[:, None] + down * (2 / self.height)
        grid = torch.stack([columns, rows], dim=3)
        return sample_pixels(images, grid, padding=self.config.padding).to(x.dtype)


class Crop(ImageView[CropConfig]):
    """Cuts a window out of each image, up to `pixels` beyond its edges, and scales it to full size.

    Without `area` and `stretch` the window has the size of the image: a shift by whole pixels, without
    interpolation, as in the augmentation of FlowGMM (Izmailov et al., 2020). With them it is the random
    resized crop of Szegedy et al. (2015), with linear interpolation.
    """

    name = "crop"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return windows of the shape of `x`, `(N, *shape)`."""
        config, limit = self.config, self.config.pixels
        if config.area == 1 and config.stretch == 1:
            shift = torch.randint(-limit, limit + 1, (2, len(x)), generator=generator, device=x.device)
            return shift_pixels(x, shift[0], shift[1], padding=config.padding)
        images = promote(x)
        area, ratio, right, down = draw_uniform(images, 4, generator)
        area = config.area + (1 - config.area) * (area + 1) / 2
        ratio = (ratio * math.log(config.stretch)).exp()
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        matrix = torch.diag_embed(torch.stack([width, height], dim=1))
        right = right * ((1 - width) * (self.width / 2) + limit)
        down = down * ((1 - height) * (self.height / 2) + limit)
        grid = affine_grid(matrix, torch.stack([right, down], dim=1), (self.height, self.width))
        return sample_pixels(images, grid, padding=config.padding).to(x.dtype)


class Flip(ImageView[FlipConfig]):
    """Mirrors each image with the given probabilities, left to right and top to bottom.

    Pixels keep their exact values. Where mirror images are as common as the originals, as among photographs,
    the density stays about the same; elsewhere they are unlikely images.
    """

    name = "flip"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the shape of `x`, `(N, *shape)`, some of them mirrored."""
        columns, rows = torch.empty(2, len(x), device=x.device).uniform_(generator=generator).unbind(0)
        x = torch.where(broadcast_per_image(columns < self.config.horizontal), x.flip(3), x)
        return torch.where(broadcast_per_image(rows < self.config.vertical), x.flip(2), x)


def inverse_matrix(angle: Tensor, zoom: Tensor, shear: Tensor) -> Tensor:
    """Compute the matrices that map pixels of the changed images to the original ones, about the centre.

    Args:
        angle: clockwise rotation in radians, `(N,)`.
        zoom: factor on the size, `(N,)`.
        shear: shift to the right per pixel down, `(N,)`, before the rotation.

    Returns:
        Matrices for `(x, y)` in pixels, `(N, 2, 2)`.
    """
    cos, sin = angle.cos(), angle.sin()
    # (rotation @ shear @ zoom)^-1
    rows = [cos + shear * sin, sin - shear * cos, -sin, cos]
    return (torch.stack(rows, dim=1) / zoom[:, None]).reshape(-1, 2, 2)


def warp(x: Tensor, matrix: Tensor, shift: Tensor, *, padding: str = "zeros") -> Tensor:
    """Apply a linear map about the centre of each image, then a shift, with linear interpolation.

    Args:
        x: images `(N, C, H, W)`, at least float32.
        matrix: see `inverse_matrix`, `(N, 2, 2)`.
        shift: right and down, in pixels, `(N, 2)`.
        padding: values outside the image: `zeros`, `border` (the nearest pixel) or `reflection`.
    """
    offset = -(matrix * shift[:, None, :]).sum(2)
    return sample_pixels(x, affine_grid(matrix, offset, x.shape[-2:]), padding=padding)


def affine_grid(matrix: Tensor, offset: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the positions `matrix @ q + offset` of the pixels q of an image, for `sample_pixels`.

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
    # a term for columns plus a term for rows: a quarter of the time of `torch.nn.functional.affine_grid`
    columns, rows = pixel_centres(width, matrix)[:, None], pixel_centres(height, matrix)[:, None, None]
    return by_column * columns + (by_row * rows + move)


def pixel_centres(count: int, like: Tensor) -> Tensor:
    """Return the centres of the pixels along a side from -1 to 1, `(count,)`, on the device of `like`."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) * 2 + (1 - count)) / count


def sample_pixels(x: Tensor, grid: Tensor, *, padding: str = "zeros") -> Tensor:
    """Return images with the values of `x` at the positions `grid`, linear between pixels.

    Args:
        x: images `(N, C, H, W)`, at least float32.
        grid: positions `(N, H, W, 2)`, see `affine_grid`.
        padding: see `warp`.
    """
    if not len(x):
        return x.clone()
    return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)


def shift_pixels(x: Tensor, right: Tensor, down: Tensor, *, padding: str = "zeros") -> Tensor:
    """Shift images by whole pixels, without interpolation.

    Args:
        x: images `(N, C, H, W)`.
        right: int64 `(N,)`, in pixels.
        down: the same.
        padding: see `warp`.
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

"""Smooth distortions of images as a view (Simard et al., 2003)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.views.images import check_shape, working
from flowgmm_cli.views.specs import ElasticConfig
from flowgmm_cli.views.warp import centres, look_up


class Elastic:
    """Bends each image by a smooth random field of displacements.

    The displacements are drawn at `knots` times `knots` points, spread over the image from corner to corner,
    and interpolated cubically in between. Simard et al. smooth a field with a number for each pixel instead,
    which comes to the same and is more work. Interpolation between pixels smooths a little, as in `affine`:
    a flow gives smooth images a higher density.

    Args:
        config: how far and how smoothly; 0 pixels leave images as they are.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; a move does not ask for it.

    Raises:
        RecipeError: `shape` is that of no image.
    """

    def __init__(self, config: ElasticConfig, *, shape: tuple[int, int, int], high: float) -> None:
        _, self.height, self.width = check_shape("elastic", shape)
        self.config = config

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return bent images of the shape of `x`, `(N, *shape)`."""
        images, knots = working(x), self.config.knots
        draws = torch.empty(len(x), 2, knots, knots, dtype=images.dtype, device=x.device)
        field = draws.uniform_(-1, 1, generator=generator) * self.config.pixels
        # the same as `interpolate` on the field itself, which takes several times as long
        moves = _curves(knots, self.height, images) @ field @ _curves(knots, self.width, images).T
        right, down = moves.unbind(1)
        across = centres(self.width, images) + right * (2 / self.width)
        along = centres(self.height, images)[:, None] + down * (2 / self.height)
        places = torch.stack([across, along], dim=3)
        return look_up(images, places, padding=self.config.padding).to(x.dtype)


def _curves(knots: int, size: int, like: Tensor) -> Tensor:
    """What each knot contributes to each pixel along a side, `(size, knots)`."""
    unit = torch.eye(knots, dtype=like.dtype, device=like.device)[None, None]
    return F.interpolate(unit, (size, knots), mode="bicubic", align_corners=True)[0, 0]

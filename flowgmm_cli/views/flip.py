"""Mirror images as a view."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.images import check_shape, per_image
from flowgmm_cli.views.specs import FlipConfig


class Flip:
    """Mirrors each image with the given probabilities, left to right and top to bottom.

    Pixels change their places and nothing else, exactly. Where mirror images are as common as the
    originals, as among photographs, the density stays about the same; elsewhere they are unlikely images.

    Args:
        config: the two probabilities.
        shape: of one image, `(channels, height, width)`.
        high: the value of white; a move does not ask for it.

    Raises:
        RecipeError: `shape` is that of no image.
    """

    def __init__(self, config: FlipConfig, *, shape: tuple[int, int, int], high: float) -> None:
        check_shape("flip", shape)
        self.config = config

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the shape of `x`, `(N, *shape)`, some of them mirrored."""
        across, down = torch.empty(2, len(x), device=x.device).uniform_(generator=generator).unbind(0)
        x = torch.where(per_image(across < self.config.horizontal), x.flip(3), x)
        return torch.where(per_image(down < self.config.vertical), x.flip(2), x)

"""RandAugment: a few strong changes of images, drawn at random from a list (Cubuk et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views import colour
from flowgmm_cli.views.geometry import affine_grid, inverse_matrix, sample_pixels
from flowgmm_cli.views.images import ImageView, check_high, draw_uniform
from flowgmm_cli.views.specs import RandAugmentConfig

# the changes at magnitude 1, those of FixMatch (Sohn et al., 2020, table 12) where it has them
_DEGREES, _SHEAR, _SHIFT, _ZOOM, _FACTOR, _BITS = 30.0, 0.3, 0.3, 1.4, 0.9, 4

GEOMETRIC_OPERATIONS = frozenset({"shift", "rotate", "shear", "zoom"})
COLOUR_OPERATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "brightness": lambda x, level, high: colour.brightness(x, 1 + _FACTOR * level, high=high),
    "contrast": lambda x, level, high: colour.contrast(x, 1 + _FACTOR * level, high=high),
    "saturation": lambda x, level, high: colour.saturation(x, 1 + _FACTOR * level, high=high),
    "sharpness": lambda x, level, high: colour.sharpness(x, 1 + _FACTOR * level, high=high),
    "posterise": lambda x, level, high: colour.posterise(x, 8 - (_BITS * level.abs()).round(), high=high),
    "solarise": lambda x, level, high: colour.solarise(x, high * (1 - level.abs()), high=high),
    "autocontrast": lambda x, level, high: colour.autocontrast(x, high=high),
    "equalise": lambda x, level, high: colour.equalise(x, high=high),
}
"""Operations on values, as functions of images, levels from -1 to 1 `(N,)` and the value of white."""


@dataclass(frozen=True)
class _Round:
    """One operation for each image."""

    # positions of the images that each operation changes, `(operations, size)`; a batch that the operations
    # do not divide is filled up with positions beyond its end
    groups: Tensor
    level: Tensor  # strengths, from -magnitude to magnitude, `(operations * size,)`
    second_level: Tensor  # further numbers of the same kind, for operations that need two


class RandAugment(ImageView[RandAugmentConfig]):
    """Applies `count` operations to each image, each drawn from `operations` and of a random strength.

    In each of the `count` rounds a random partition assigns the images to the operations, in groups of equal
    size. So an image costs no more than its own operations, and no step has to wait for the device. The
    geometric operations of an image come first, in one linear interpolation, then the operations on its
    values in their order. Their effects on the density differ: geometric operations and less contrast tend to
    raise it, sharpening lowers it.

    Raises:
        RecipeError: also if all images are black, or no operation of the list suits images without colours.
    """

    name = "rand_augment"

    def __init__(self, config: RandAugmentConfig, *, shape: tuple[int, ...], high: float) -> None:
        super().__init__(config, shape=shape, high=high)
        self.high = check_high(self.name, high)
        is_rgb = self.channels == colour.RGB_CHANNELS
        self.operations = [name for name in config.operations if name != "saturation" or is_rgb]
        if not self.operations:
            raise RecipeError(
                f"the view `rand_augment` has nothing to do: images of shape {shape} have no colours, and "
                f"its operations are {', '.join(config.operations)}",
                hint="name others, such as shift and contrast, in its `operations`",
            )

    def change(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images with values between 0 and `high`."""
        if not len(x):
            return x.clone()
        rounds = [self._draw_round(x, generator) for _ in range(self.config.count)]
        if GEOMETRIC_OPERATIONS & set(self.operations):
            x = self._apply_geometric(x, rounds)
        if set(COLOUR_OPERATIONS) & set(self.operations):
            x = self._apply_colour(x, rounds)
        return x.clamp(0, self.high)

    def _draw_round(self, images: Tensor, generator: torch.Generator) -> _Round:
        count = len(self.operations)
        size = -(-len(images) // count)
        places = images.new_empty(count * size)  # those beyond the images stay unused
        order = places.uniform_(generator=generator).argsort()
        level, second_level = draw_uniform(places, 2, generator)
        magnitude = self.config.magnitude
        return _Round(order.reshape(count, size), level * magnitude, second_level * magnitude)

    def _apply_geometric(self, images: Tensor, rounds: list[_Round]) -> Tensor:
        count = len(images)
        total = torch.eye(2, dtype=images.dtype, device=images.device).expand(count, 2, 2)
        offset = images.new_zeros(count, 2, 1)
        for current in rounds:
            matrix, shift = self._affine_parameters(current)
            # inverses compose in reverse order: total @ (matrix @ (q - shift)) + offset
            total = total @ matrix[:count]
            offset = offset - total @ shift[:count, :, None]
        grid = affine_grid(total, offset.squeeze(2), (self.height, self.width))
        return sample_pixels(images, grid, padding=self.config.padding)

    def _affine_parameters(self, current: _Round) -> tuple[Tensor, Tensor]:
        """Return the inverse matrix and the shift of each image, the identity for other operations."""
        kind = current.groups.flatten().argsort() // current.groups.shape[1]
        level, second_level = current.level, current.second_level
        zeros = torch.zeros_like(level)

        def select(name: str, values: Tensor) -> Tensor:
            """Return `values` for the images of an operation, 0 for the others."""
            if name not in self.operations:
                return zeros
            return torch.where(kind == self.operations.index(name), values, zeros)

        shear = select("shear", level * _SHEAR)
        angle, zoom = level * math.radians(_DEGREES), level * math.log(_ZOOM)
        matrix = inverse_matrix(select("rotate", angle), select("zoom", zoom).exp(), shear)
        vertical = ((shear != 0) & (second_level > 0))[:, None, None]  # half of the shears are vertical
        right = select("shift", level * (_SHIFT * self.width))
        down = select("shift", second_level * (_SHIFT * self.height))
        return torch.where(vertical, matrix.mT, matrix), torch.stack([right, down], dim=1)

    def _apply_colour(self, images: Tensor, rounds: list[_Round]) -> Tensor:
        missing = rounds[0].groups.numel() - len(images)
        rows = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        for current in rounds:
            for name, index in zip(self.operations, current.groups.unbind(0), strict=True):
                if name in COLOUR_OPERATIONS:
                    group = rows.index_select(0, index)
                    changed = COLOUR_OPERATIONS[name](group, current.level[index], self.high)
                    rows.index_copy_(0, index, changed)
        return rows[: len(images)]

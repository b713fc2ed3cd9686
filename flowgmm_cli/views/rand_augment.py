"""A few strong changes of images, picked at random from a list, as a view (Cubuk et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.colours import (
    COLOURED,
    autocontrast,
    brightness,
    contrast,
    equalise,
    posterise,
    saturation,
    sharpness,
    solarise,
)
from flowgmm_cli.views.images import check_high, check_shape, spread, working
from flowgmm_cli.views.specs import RandAugmentConfig
from flowgmm_cli.views.warp import grid, inverse_map, look_up

# the changes at magnitude 1, those of FixMatch (Sohn et al., 2020, table 12) where it has them
_DEGREES, _SHEAR, _SHIFT, _ZOOM, _FACTOR, _BITS = 30.0, 0.3, 0.3, 1.4, 0.9, 4

MOVES = frozenset({"shift", "rotate", "shear", "zoom"})
TONES: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "brightness": lambda x, level, high: brightness(x, 1 + _FACTOR * level, high=high),
    "contrast": lambda x, level, high: contrast(x, 1 + _FACTOR * level, high=high),
    "saturation": lambda x, level, high: saturation(x, 1 + _FACTOR * level, high=high),
    "sharpness": lambda x, level, high: sharpness(x, 1 + _FACTOR * level, high=high),
    "posterise": lambda x, level, high: posterise(x, 8 - (_BITS * level.abs()).round(), high=high),
    "solarise": lambda x, level, high: solarise(x, high * (1 - level.abs()), high=high),
    "autocontrast": lambda x, level, high: autocontrast(x, high=high),
    "equalise": lambda x, level, high: equalise(x, high=high),
}
"""What changes values in place: images, levels from -1 to 1 `(N,)`, the value of white."""


@dataclass(frozen=True)
class _Round:
    """One operation for each image.

    Attributes:
        order: the places of the images to which each operation was dealt, `(operations, hand)`; a batch that
            the operations do not divide is filled up with places beyond its end.
        level: strengths, from -magnitude to magnitude, `(operations * hand,)`.
        other: second numbers of the same kind, for what has two.
    """

    order: Tensor
    level: Tensor
    other: Tensor


class RandAugment:
    """Makes `count` changes of each image, each picked from `operations` and of a random strength.

    In each of the `count` rounds the operations are dealt out like cards: each to no more images than its
    share, rounded up, and to which ones is random. So an image costs what its own operations cost, and
    nothing has to wait for the device. All moves of an image are made first, in one linear interpolation, and
    then the changes of its values in their order. What they do to the density differs: moves and less
    contrast tend to raise it, sharpening lowers it.

    Args:
        config: the list, and how many and how strong changes there are.
        shape: of one image, `(channels, height, width)`.
        high: the value of white.

    Raises:
        RecipeError: `shape` is that of no image, all images are black, or of the list nothing is left for
            images without colours.
    """

    def __init__(self, config: RandAugmentConfig, *, shape: tuple[int, int, int], high: float) -> None:
        channels, self.height, self.width = check_shape("rand_augment", shape)
        self.high = check_high("rand_augment", high)
        self.config = config
        self.operations = [name for name in config.operations if name != "saturation" or channels == COLOURED]
        if not self.operations:
            raise RecipeError(
                f"the view `rand_augment` has nothing to do: images of shape {shape} have no colours, and "
                f"its operations are {', '.join(config.operations)}",
                hint="name others, such as shift and contrast, in its `operations`",
            )

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the shape of `x`, `(N, *shape)`, with values between 0 and `high`."""
        if not len(x):
            return x.clone()
        images = working(x)
        rounds = [self._deal(images, generator) for _ in range(self.config.count)]
        if MOVES & set(self.operations):
            images = self._moved(images, rounds)
        if set(TONES) & set(self.operations):
            images = self._toned(images, rounds)
        return images.clamp(0, self.high).to(x.dtype)

    def _deal(self, images: Tensor, generator: torch.Generator) -> _Round:
        kinds = len(self.operations)
        hand = -(-len(images) // kinds)
        places = images.new_empty(kinds * hand)  # those beyond the images are no one's
        order = places.uniform_(generator=generator).argsort()
        level, other = spread(places, 2, generator)
        size = self.config.magnitude
        return _Round(order.reshape(kinds, hand), level * size, other * size)

    def _moved(self, images: Tensor, rounds: list[_Round]) -> Tensor:
        count = len(images)
        total = torch.eye(2, dtype=images.dtype, device=images.device).expand(count, 2, 2)
        offset = images.new_zeros(count, 2, 1)
        for dealt in rounds:
            matrix, shift = self._move(dealt)
            # the last change is the first to be undone: total @ (matrix @ (q - shift)) + offset
            total = total @ matrix[:count]
            offset = offset - total @ shift[:count, :, None]
        return look_up(
            images, grid(total, offset.squeeze(2), (self.height, self.width)), padding=self.config.padding
        )

    def _move(self, dealt: _Round) -> tuple[Tensor, Tensor]:
        """The inverse map and the shift of each image, the identity for those dealt no move."""
        kind = dealt.order.flatten().argsort() // dealt.order.shape[1]
        level, other = dealt.level, dealt.other
        none = torch.zeros_like(level)

        def of(name: str, values: Tensor) -> Tensor:
            for index, operation in enumerate(self.operations):
                if operation == name:
                    return torch.where(kind == index, values, none)
            return none

        slant = of("shear", level * _SHEAR)
        matrix = inverse_map(
            of("rotate", level * math.radians(_DEGREES)), of("zoom", level * math.log(_ZOOM)).exp(), slant
        )
        upright = ((slant != 0) & (other > 0))[:, None, None]  # half of the slants go up and down
        right, down = of("shift", level * (_SHIFT * self.width)), of("shift", other * (_SHIFT * self.height))
        return torch.where(upright, matrix.mT, matrix), torch.stack([right, down], dim=1)

    def _toned(self, images: Tensor, rounds: list[_Round]) -> Tensor:
        missing = rounds[0].order.numel() - len(images)
        rows = torch.cat([images, images.new_zeros(missing, *images.shape[1:])])
        for dealt in rounds:
            for name, places in zip(self.operations, dealt.order.unbind(0), strict=True):
                if name in TONES:
                    hand = rows.index_select(0, places)
                    rows.index_copy_(0, places, TONES[name](hand, dealt.level[places], self.high))
        return rows[: len(images)]

"""Hidden squares of images as a view (DeVries and Taylor, 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.views.images import check_high, check_shape, working
from flowgmm_cli.views.specs import CutoutConfig


class Cutout:
    """Hides squares of each image; those that reach over an edge hide less.

    The centre of a square is any pixel of the image alike. A flow of pixels finds even patches likely and
    their edges unlikely: the density of a large square goes up, however little is left of the class.

    Args:
        config: how many squares, how large, and what they are filled with.
        shape: of one image, `(channels, height, width)`.
        high: the value of white, twice that of grey.

    Raises:
        RecipeError: `shape` is that of no image, or grey cannot be told from black.
    """

    def __init__(self, config: CutoutConfig, *, shape: tuple[int, int, int], high: float) -> None:
        _, self.height, self.width = check_shape("cutout", shape)
        self.side = max(1, round(config.side * min(self.height, self.width)))
        self.count = config.count
        self.fill = config.fill
        self.grey = check_high("cutout", high) / 2 if config.fill == "grey" else 0.0

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return images of the shape of `x`, `(N, *shape)`, with some pixels hidden."""
        rows = self._strips(x, self.height, generator)
        columns = self._strips(x, self.width, generator)
        hidden = (rows[:, :, :, None] & columns[:, :, None, :]).any(1)[:, None]
        if self.fill == "mean":
            return torch.where(hidden, working(x).mean((2, 3), keepdim=True).to(x.dtype), x)
        return x.masked_fill(hidden, self.grey)

    def _strips(self, x: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Which pixels along one side are in each square, `(N, count, size)`."""
        first = torch.randint(size, (len(x), self.count, 1), generator=generator, device=x.device)
        first = first - self.side // 2
        place = torch.arange(size, device=x.device)
        return (place >= first) & (place < first + self.side)

"""The multi-scale architecture (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.actnorm import ActNorm
from flowgmm_cli.flows.layers.coupling import halves

Shape = tuple[int, int, int]
_SEEN = 1 << 20  # pixels that actnorm starts from, in at least 16 images: plenty, and no strain on memory


class MultiScale(Bijection):
    """A flow of images, scale by scale; behind each but the last, half of the channels leave as latents.

    Latents come flat, the coarsest scale first, so that the first so many are those of the coarsest scales:
    what left last and what never left. (The paper has the finest first.)

    Args:
        scales: the steps of each scale, in order; all but the last give an even number of channels.
        shapes: `(channels, height, width)` of the images behind each scale, before half of them leave.
        checkpointing: keep only what goes in and out of a step for the backward pass and compute the rest
            again there: about a third more time and a fraction of the memory.

    Attributes:
        latent_sizes: number of latents of each scale, the coarsest first.
    """

    def __init__(
        self, scales: Sequence[Sequence[Bijection]], shapes: Sequence[Shape], *, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleList(Sequential(steps) for steps in scales)
        self.checkpointing = checkpointing
        self.shapes = [  # of the latents of each scale, the finest first
            (shape[0] // 2 if index < len(shapes) - 1 else shape[0], *shape[1:])
            for index, shape in enumerate(shapes)
        ]
        self.latent_sizes = tuple(math.prod(shape) for shape in reversed(self.shapes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images `(batch, channels, height, width)` to latents `(batch, D)`, with the log-determinant."""
        total = zero_log_det(x)
        left: list[Tensor] = []
        for index, scale in enumerate(self._typed()):
            for step in scale.layers:
                x, log_det = self._step(step, x)
                total = total + log_det
            if index < len(self.scales) - 1:
                x, out = halves(x)
                left.append(out.flatten(1))
        return torch.cat([x.flatten(1), *reversed(left)], dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        parts = torch.split(z, list(self.latent_sizes), dim=1)
        shapes = reversed(self.shapes)
        latents = [part.reshape(len(z), *shape) for part, shape in zip(parts, shapes, strict=True)]
        x = latents[0][:, :0]
        for latent, scale in zip(latents, reversed(self._typed()), strict=True):
            x = scale.inverse(torch.cat([x, latent], dim=1))
        return x

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set every `ActNorm` from images `(batch, C, H, W)`; without any this does nothing."""
        x = x[: max(16, _SEEN // max(1, x.shape[2:].numel()))]
        for index, scale in enumerate(self._typed()):
            x = _start(scale, x)
            if index < len(self.scales) - 1:
                x, _ = halves(x)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        sizes = ", ".join(map(str, self.latent_sizes))
        return f"latent_sizes=({sizes})" + (", checkpointing=True" if self.checkpointing else "")

    def _step(self, step: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.checkpointing and torch.is_grad_enabled():
            z, log_det = checkpoint(step, x, use_reentrant=False)
        else:
            z, log_det = step(x)
        return z, log_det

    def _typed(self) -> list[Sequential]:
        return [scale for scale in self.scales if isinstance(scale, Sequential)]


def _start(module: nn.Module, x: Tensor) -> Tensor:
    """Set the actnorms of a step from what comes to them; returns what comes out."""
    if isinstance(module, Sequential):
        for layer in module.layers:
            x = _start(layer, x)
        return x
    if isinstance(module, ActNorm):
        module.initialise(x)
    z: Tensor = module(x)[0]
    return z


def image_of(shape: tuple[int, ...], flow: str) -> Shape:
    """The shape of the rows as that of images.

    Raises:
        RecipeError: they are none.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise RecipeError(
            f"flow `{flow}` takes images, but a row of this data has the shape {tuple(shape)}",
            hint="choose a flow for vectors, such as flow.use=realnvp; or leave out the transforms that mix "
            "pixels (`pca`)",
        )
    return (shape[0], shape[1], shape[2])


def squeezes(shape: Shape) -> int:
    """How often blocks of 2 by 2 pixels can be taken together: 2 for 28 by 28, 5 for 32 by 32."""
    _, height, width = shape
    count = 0
    while height % 2 == 0 and width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    return count

"""Multi-scale flows of images (Dinh, Sohl-Dickstein and Bengio, 2017, section 3.6) and their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from flowgmm_cli.bijection import Bijection, Sequential, zero_log_det
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.affine import initialise_actnorms
from flowgmm_cli.flows.layers.conditional import (
    ConditionalAffine,
    ConditionalFactory,
    ConditionalSpline,
    NetworkFactory,
)
from flowgmm_cli.flows.layers.coupling import split_halves
from flowgmm_cli.flows.layers.networks import ShallowConditioner
from flowgmm_cli.flows.layers.pixels import Logit
from flowgmm_cli.flows.layers.variational_dequantisation import VariationalDequantisation
from flowgmm_cli.flows.specs import ImageFlowConfig

Shape = tuple[int, int, int]

INIT_PIXELS = 1 << 20  # for the statistics of actnorm, from at least 16 images


class MultiScale(Bijection):
    """Flow of images with several scales; after each but the last, half of the channels leave as latents.

    Latents are flat, the coarsest scale first, so that the first latents are those of the coarsest scales.
    (The paper has the finest first.)

    Args:
        scales: the steps of each scale, in order; all but the last return an even number of channels.
        shapes: `(channels, height, width)` of the images after each scale, before half of them leave.
        checkpointing: keep only inputs and outputs of a step for the backward pass and recompute the rest
            there: about a third more time and a fraction of the memory.

    Attributes:
        latent_sizes: number of latents of each scale, the coarsest first.
    """

    def __init__(
        self, scales: Sequence[Sequence[Bijection]], shapes: Sequence[Shape], *, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.scales: Any = nn.ModuleList(Sequential(steps) for steps in scales)
        self.checkpointing = checkpointing
        # Shapes of the latents of each scale, the finest first.
        self.shapes = [(channels // 2, height, width) for channels, height, width in shapes[:-1]]
        self.shapes.append(shapes[-1])
        self.latent_sizes = tuple(math.prod(shape) for shape in reversed(self.shapes))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images `(batch, channels, height, width)` to latents `(batch, D)`, with the log-determinant."""
        total = zero_log_det(x)
        latents: list[Tensor] = []
        recompute = self.checkpointing and torch.is_grad_enabled()
        for index, scale in enumerate(self.scales):
            for step in scale.layers:
                x, log_det = checkpoint(step, x, use_reentrant=False) if recompute else step(x)
                total = total + log_det
            if index < len(self.scales) - 1:
                x, leaving = split_halves(x)
                latents.append(leaving.flatten(1))
        return torch.cat([x.flatten(1), *reversed(latents)], dim=1), total

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        parts = torch.split(z, list(self.latent_sizes), dim=1)
        shapes = reversed(self.shapes)
        latents = [part.reshape(len(z), *shape) for part, shape in zip(parts, shapes, strict=True)]
        x = latents[0][:, :0]
        for latent, scale in zip(latents, reversed(self.scales), strict=True):
            x = scale.inverse(torch.cat([x, latent], dim=1))
        return x

    def initialise(self, x: Tensor) -> None:
        """Initialise every `ActNorm` from images `(batch, channels, height, width)`."""
        x = x[: max(16, INIT_PIXELS // max(1, x.shape[2:].numel()))]
        for index, scale in enumerate(self.scales):
            x = initialise_actnorms(scale, x)
            if index < len(self.scales) - 1:
                x, _ = split_halves(x)


class FlatFlow(nn.Module):
    """Flow of images that takes and returns vectors.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back.
        shape: of one row.
    """

    def __init__(self, flow: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.flow: Any = flow

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """See the function `latent_sizes`."""
        return latent_sizes(self.flow)

    def initialise(self, x: Tensor) -> None:
        """Initialise layers that depend on data from rows `(N, D)`, if the flow has such layers."""
        if hasattr(self.flow, "initialise"):
            self.flow.initialise(self.unflatten(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        z, log_det = self.flow(self.unflatten(x))
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        x: Tensor = self.flow.inverse(z)
        return x.flatten(1)

    def unflatten(self, x: Tensor) -> Tensor:
        """Reshape vectors `(N, D)` to the input of the flow, `(N, *shape)`."""
        return x.reshape(len(x), *self.shape)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"shape={self.shape}"


def latent_sizes(flow: Any) -> tuple[int, ...]:
    """Latent dimensions of each scale of a flow, the coarsest first; empty for a flow without scales."""
    return tuple(flow.latent_sizes) if hasattr(flow, "latent_sizes") else ()


def image_shape(shape: tuple[int, ...], flow: str) -> Shape:
    """Check that a row's shape is `(channels, height, width)` and return it.

    Raises:
        RecipeError: it is not.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise RecipeError(
            f"flow `{flow}` takes images, but a row of this data has the shape {tuple(shape)}",
            hint="choose a flow for vectors, such as flow.use=realnvp; or leave out the transforms that mix "
            "pixels (`pca`)",
        )
    return (shape[0], shape[1], shape[2])


def count_squeezes(shape: Shape) -> int:
    """Number of times that height and width can be halved: 2 for 28 by 28 pixels, 5 for 32 by 32."""
    _, height, width = shape
    count = 0
    while height % 2 == 0 and width % 2 == 0:
        height, width, count = height // 2, width // 2, count + 1
    return count


def check_scales(
    scales: int, most: int, *, images: str, no_scale: str, remedy: str = "or images of another size"
) -> None:
    """Raise `RecipeError` if more than `most` scales are asked for, with a description of the `images`."""
    if scales > most:
        raise RecipeError(
            f"flow.scales={scales} is too many for images of {images}: "
            f"{f'at most {most} fit' if most else no_scale}",
            hint=f"flow.scales={most}, {remedy}"
            if most
            else "crop or pad the images to an even height and width",
        )


def conditional_factory(config: ImageFlowConfig, net: NetworkFactory) -> ConditionalFactory:
    """Factory of the maps inside the couplings."""
    kind: Callable[..., ConditionalAffine] = ConditionalAffine
    if config.coupling == "spline":
        kind = partial(ConditionalSpline, bins=config.bins)
    return partial(kind, net=net, scale_limit=config.scale_limit)


def input_layers(config: ImageFlowConfig, shape: Shape, generator: torch.Generator) -> list[Bijection]:
    """Variational dequantisation and logit, each if the recipe has it.

    Raises:
        RecipeError: variational dequantisation of images with an odd height or width.
    """
    layers: list[Bijection] = []
    if config.dequantisation == "variational":
        if not count_squeezes(shape):
            raise RecipeError(
                "flow.dequantisation=variational takes images of an even height and width, and these are "
                f"{shape[1]} by {shape[2]}",
                hint="flow.dequantisation=uniform, or crop or pad the images to an even size",
            )
        net = partial(ShallowConditioner, hidden=config.noise_hidden, generator=generator)
        layers.append(
            VariationalDequantisation(
                shape[0], couplings=config.noise_couplings, net=net, levels=config.levels
            )
        )
    if config.logit is not None:
        layers.append(Logit(config.logit))
    return layers

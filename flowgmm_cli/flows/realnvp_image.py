"""RealNVP for images (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

from functools import partial

import torch

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.image_parts import coupled_by, first_layers
from flowgmm_cli.flows.layers.actnorm import ActNorm
from flowgmm_cli.flows.layers.conv_conditioner import ResidualConditioner
from flowgmm_cli.flows.layers.image_coupling import ImageCoupling
from flowgmm_cli.flows.layers.linear import Permutation
from flowgmm_cli.flows.layers.squeeze import Squeeze, rows_first
from flowgmm_cli.flows.multiscale import MultiScale, Shape, image_of, squeezes
from flowgmm_cli.flows.specs import RealNVPImageConfig


class RealNVPImage(MultiScale):
    """Checkerboard couplings, squeeze, channel couplings, half of the channels leave; the last scale
    has checkerboard couplings alone, one more of them.

    Images are squeezed at the beginning of a scale, where checkerboard couplings are channel couplings of
    what comes out (see `Squeeze`), at a quarter of the cost. Where the last scale has an odd height or width
    it has couplings of channels instead.

    Args:
        shape: `(channels, height, width)` of the images.
        config: the parameters.
        generator: seeds the weights, on the CPU.

    Raises:
        RecipeError: the images cannot be squeezed as often as there are scales.
    """

    def __init__(self, shape: Shape, config: RealNVPImageConfig, *, generator: torch.Generator) -> None:
        most = _most_scales(shape)
        if config.scales > most:
            raise RecipeError(
                f"flow.scales={config.scales} is too many for images of {shape[1]} by {shape[2]} pixels and "
                f"{_channels(shape[0])}: {_fitting(most)}",
                hint=f"flow.scales={most}, or images of another size"
                if most
                else "crop or pad the images to an even height and width",
            )
        couple = coupled_by(
            config,
            partial(
                ResidualConditioner,
                hidden=config.hidden,
                blocks=config.blocks,
                dropout=config.dropout,
                generator=generator,
            ),
        )

        def couplings(channels: int, count: int) -> list[Bijection]:
            steps: list[Bijection] = []
            for index in range(count):
                coupling = ImageCoupling(channels, flip=bool(index % 2), couple=couple)
                steps.append(Sequential([ActNorm(channels), coupling]) if config.actnorm else coupling)
            return steps

        channels, height, width = shape
        scales: list[list[Bijection]] = []
        shapes: list[Shape] = []
        for index in range(config.scales):
            steps = [] if index else first_layers(config, shape, generator)
            last = index == config.scales - 1
            if height % 2 == 0 and width % 2 == 0:
                channels, height, width = 4 * channels, height // 2, width // 2
                steps.append(Squeeze())
            steps += couplings(channels, config.checkerboard + last)
            if not last:
                order = Permutation(rows_first(channels))
                # back in checkerboard order, of which one colour leaves, as in the paper
                steps += [order, *couplings(channels, config.channel), Permutation(rows_first(channels))]
            scales.append(steps)
            shapes.append((channels, height, width))
            channels = channels // 2
        super().__init__(scales, shapes, checkpointing=config.checkpointing)


def _most_scales(shape: Shape) -> int:
    """One for each squeeze, and one more where an odd rest has channels to be coupled."""
    count = squeezes(shape)
    return count + 1 if count or shape[0] > 1 else 0


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _fitting(most: int) -> str:
    return f"at most {most} fit" if most else "an odd size of one channel has no halves"


def build(config: RealNVPImageConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> RealNVPImage:
    """Make the flow for images of `shape` `(channels, height, width)`.

    Raises:
        RecipeError: the rows are no images, or there are too many scales for their size.
    """
    return RealNVPImage(image_of(shape, "realnvp_image"), config, generator=generator)

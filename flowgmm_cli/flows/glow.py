"""Glow (Kingma and Dhariwal, 2018)."""

from __future__ import annotations

from functools import partial

import torch

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.image_parts import coupled_by, first_layers
from flowgmm_cli.flows.layers.actnorm import ActNorm
from flowgmm_cli.flows.layers.conv1x1 import Conv1x1
from flowgmm_cli.flows.layers.conv_conditioner import ShallowConditioner
from flowgmm_cli.flows.layers.image_coupling import ImageCoupling
from flowgmm_cli.flows.layers.squeeze import Squeeze
from flowgmm_cli.flows.multiscale import MultiScale, Shape, image_of, squeezes
from flowgmm_cli.flows.specs import GlowConfig


class Glow(MultiScale):
    """Scales of a squeeze and steps of actnorm, 1 by 1 convolution and coupling.

    Before half of the channels leave, they are scaled and shifted by a function of those that stay: the
    learned prior of Glow, as one more coupling.

    Args:
        shape: `(channels, height, width)` of the images.
        config: the parameters.
        generator: seeds the weights, on the CPU.

    Raises:
        RecipeError: the images cannot be squeezed as often as there are scales.
    """

    def __init__(self, shape: Shape, config: GlowConfig, *, generator: torch.Generator) -> None:
        most = squeezes(shape)
        fitting = f"at most {most} fit" if most else "an odd size has no half"
        if config.scales > most:
            raise RecipeError(
                f"flow.scales={config.scales} is too many for images of {shape[1]} by {shape[2]} pixels, "
                f"which are halved at each scale: {fitting}",
                hint=f"flow.scales={most}, or crop or pad the images to a size that 2 divides more often"
                if most
                else "crop or pad the images to an even height and width",
            )
        net = partial(ShallowConditioner, hidden=config.hidden, dropout=config.dropout, generator=generator)
        couple = coupled_by(config, net)
        channels, height, width = shape
        scales: list[list[Bijection]] = []
        shapes: list[Shape] = []
        for index in range(config.scales):
            steps = [] if index else first_layers(config, shape, generator)
            channels, height, width = 4 * channels, height // 2, width // 2
            steps.append(Squeeze())
            for _ in range(config.steps):
                parts: list[Bijection] = [ActNorm(channels), Conv1x1(channels, generator=generator)]
                steps.append(Sequential([*parts, ImageCoupling(channels, couple=couple)]))
            if index < config.scales - 1:
                steps.append(ImageCoupling(channels, couple=couple))
            scales.append(steps)
            shapes.append((channels, height, width))
            channels = channels // 2
        super().__init__(scales, shapes, checkpointing=config.checkpointing)


def build(config: GlowConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> Glow:
    """Make the flow for images of `shape` `(channels, height, width)`.

    Raises:
        RecipeError: the rows are no images, or there are too many scales for their size.
    """
    return Glow(image_of(shape, "glow"), config, generator=generator)

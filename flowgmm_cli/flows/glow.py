"""Glow (Kingma and Dhariwal, 2018)."""

from __future__ import annotations

from functools import partial

import torch

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.flows.layers.affine import ActNorm
from flowgmm_cli.flows.layers.coupling import ImageCoupling
from flowgmm_cli.flows.layers.linear import Conv1x1
from flowgmm_cli.flows.layers.networks import ShallowConditioner
from flowgmm_cli.flows.layers.pixels import Squeeze
from flowgmm_cli.flows.multiscale import (
    MultiScale,
    Shape,
    check_scales,
    conditional_factory,
    count_squeezes,
    image_shape,
    input_layers,
)
from flowgmm_cli.flows.specs import GlowConfig


class Glow(MultiScale):
    """Scales of a squeeze and steps of actnorm, 1 by 1 convolution and coupling.

    Before half of the channels leave, they are scaled and shifted by a function of those that stay. This
    coupling is the learned prior of Glow.

    Args:
        config: the parameters.
        shape: `(channels, height, width)` of the images.
        generator: draws the weights, on the CPU.

    Raises:
        RecipeError: the rows are not images, or they cannot be squeezed once per scale.

    Examples:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> flow = Glow(GlowConfig(steps=2), shape=(1, 8, 8), generator=generator)
        >>> flow(torch.rand(3, 1, 8, 8))[0].shape
        torch.Size([3, 64])
    """

    def __init__(self, config: GlowConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> None:
        channels, height, width = shape = image_shape(shape, "glow")
        check_scales(
            config.scales,
            count_squeezes(shape),
            images=f"{height} by {width} pixels, which are halved at each scale",
            no_scale="an odd size has no half",
            remedy="or crop or pad the images to a size that 2 divides more often",
        )
        net = partial(ShallowConditioner, hidden=config.hidden, dropout=config.dropout, generator=generator)
        couple = conditional_factory(config, net)
        scales: list[list[Bijection]] = []
        shapes: list[Shape] = []
        for index in range(config.scales):
            layers = [] if index else input_layers(config, shape, generator)
            channels, height, width = 4 * channels, height // 2, width // 2
            layers.append(Squeeze())
            for _ in range(config.steps):
                step: list[Bijection] = [ActNorm(channels), Conv1x1(channels, generator=generator)]
                layers.append(Sequential([*step, ImageCoupling(channels, couple=couple)]))
            if index < config.scales - 1:
                layers.append(ImageCoupling(channels, couple=couple))
            scales.append(layers)
            shapes.append((channels, height, width))
            channels = channels // 2
        super().__init__(scales, shapes, checkpointing=config.checkpointing)

"""RealNVP for images (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

from functools import partial

import torch

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.flows.layers.affine import ActNorm
from flowgmm_cli.flows.layers.coupling import ImageCoupling
from flowgmm_cli.flows.layers.linear import Permutation
from flowgmm_cli.flows.layers.networks import ResidualConditioner
from flowgmm_cli.flows.layers.pixels import Squeeze, row_order
from flowgmm_cli.flows.multiscale import (
    MultiScale,
    Shape,
    check_scales,
    conditional_factory,
    count_squeezes,
    image_shape,
    input_layers,
)
from flowgmm_cli.flows.specs import RealNVPImageConfig
from flowgmm_cli.formatting import pluralise


class RealNVPImage(MultiScale):
    """Scales of checkerboard couplings, a squeeze and channel couplings.

    The last scale has only checkerboard couplings, one more than the others. Images are squeezed at the
    beginning of a scale, where checkerboard couplings are channel couplings (see `Squeeze`), at a quarter of
    the cost. If the last scale has an odd height or width, it has couplings of channels instead.

    Args:
        config: the parameters.
        shape: `(channels, height, width)` of the images.
        generator: draws the weights, on the CPU.

    Raises:
        RecipeError: the rows are not images, or they are too small or odd for so many scales.

    Examples:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> flow = RealNVPImage(RealNVPImageConfig(hidden=8), shape=(1, 8, 8), generator=generator)
        >>> flow(torch.rand(3, 1, 8, 8))[0].shape
        torch.Size([3, 64])
    """

    def __init__(
        self, config: RealNVPImageConfig, *, shape: tuple[int, ...], generator: torch.Generator
    ) -> None:
        channels, height, width = shape = image_shape(shape, "realnvp_image")
        squeezes = count_squeezes(shape)
        check_scales(
            config.scales,
            squeezes + 1 if squeezes or channels > 1 else 0,  # an odd size at the end has channel couplings
            images=f"{height} by {width} pixels and {pluralise(channels, 'channel')}",
            no_scale="an odd size of one channel has no halves",
        )
        net = partial(
            ResidualConditioner,
            hidden=config.hidden,
            blocks=config.blocks,
            dropout=config.dropout,
            generator=generator,
        )
        couple = conditional_factory(config, net)

        def couplings(channels: int, count: int) -> list[Bijection]:
            layers: list[Bijection] = []
            for index in range(count):
                coupling = ImageCoupling(channels, flip=bool(index % 2), couple=couple)
                layers.append(Sequential([ActNorm(channels), coupling]) if config.actnorm else coupling)
            return layers

        scales: list[list[Bijection]] = []
        shapes: list[Shape] = []
        for index in range(config.scales):
            layers = [] if index else input_layers(config, shape, generator)
            last = index == config.scales - 1
            if height % 2 == 0 and width % 2 == 0:
                channels, height, width = 4 * channels, height // 2, width // 2
                layers.append(Squeeze())
            layers += couplings(channels, config.checkerboard + last)
            if not last:
                layers += [Permutation(row_order(channels)), *couplings(channels, config.channel)]
                # back to checkerboard order, of which one colour leaves, as in the paper
                layers.append(Permutation(row_order(channels)))
            scales.append(layers)
            shapes.append((channels, height, width))
            channels = channels // 2
        super().__init__(scales, shapes, checkpointing=config.checkpointing)

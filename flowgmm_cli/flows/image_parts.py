"""What the flows of images have in common: their first layers and their couplings."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from flowgmm_cli.bijection import Bijection
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.conditional import ConditionalAffine, ConditionalSpline, MakeNet
from flowgmm_cli.flows.layers.conv_conditioner import ShallowConditioner
from flowgmm_cli.flows.layers.image_coupling import MakeMap
from flowgmm_cli.flows.layers.logit import Logit
from flowgmm_cli.flows.layers.variational_dequantisation import VariationalDequantisation
from flowgmm_cli.flows.multiscale import Shape, squeezes
from flowgmm_cli.flows.specs import ImageFlowConfig


def coupled_by(config: ImageFlowConfig, net: MakeNet) -> MakeMap:
    """The map inside each coupling."""
    kind: Callable[..., ConditionalAffine | ConditionalSpline] = ConditionalAffine
    if config.coupling == "spline":
        kind = partial(ConditionalSpline, bins=config.bins)
    return partial(kind, net=net, scale_limit=config.scale_limit)


def first_layers(config: ImageFlowConfig, shape: Shape, generator: torch.Generator) -> list[Bijection]:
    """Learned dequantisation and logit, as far as the recipe wants them.

    Raises:
        RecipeError: dequantisation is to be learned for images of an odd height or width.
    """
    layers: list[Bijection] = []
    if config.dequantisation == "variational":
        if not squeezes(shape):
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

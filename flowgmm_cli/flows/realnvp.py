"""RealNVP for vectors (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.actnorm import ActNorm
from flowgmm_cli.flows.layers.affine import ElementwiseAffine
from flowgmm_cli.flows.layers.coupling import CouplingStack
from flowgmm_cli.flows.layers.linear import LULinear, Permutation
from flowgmm_cli.flows.specs import RealNVPConfig


class RealNVP(Sequential):
    """Affine couplings, with optional normalisation and mixing before each of them.

    Without either it is one `CouplingStack`. The flow starts as the identity: a last permutation undoes the
    random ones. With `actnorm`, `initialise` turns that start into a standardisation of each feature.

    One feature has no halves; the flow of a single number is a learned scale and shift.

    Args:
        features: length of the vector.
        couplings: number of couplings.
        hidden: width of the conditioners' hidden layers.
        depth: number of hidden layers of a conditioner.
        scale_limit: bound on the absolute log-scale of one coupling.
        dropout: share of a conditioner's units dropped in training.
        actnorm: put an `ActNorm` before each coupling.
        mixing: what mixes the features before each coupling.
        generator: seeds the weights and permutations, on the CPU.
    """

    def __init__(
        self,
        features: int,
        *,
        couplings: int = 6,
        hidden: int = 512,
        depth: int = 2,
        scale_limit: float = 1.0,
        dropout: float = 0.0,
        actnorm: bool = False,
        mixing: Literal["none", "permutation", "lu"] = "none",
        generator: torch.Generator,
    ) -> None:
        def stack(size: int, *, flip: bool = False) -> CouplingStack:
            return CouplingStack(
                features,
                couplings=size,
                flip=flip,
                hidden=hidden,
                depth=depth,
                scale_limit=scale_limit,
                dropout=dropout,
                generator=generator,
            )

        layers: list[Bijection] = []
        order = torch.arange(features)
        if features == 1:
            layers.append(ActNorm(1) if actnorm else ElementwiseAffine(1))
        elif not actnorm and mixing == "none":
            layers.append(stack(couplings))
        else:
            for index in range(couplings):
                if actnorm:
                    layers.append(ActNorm(features))
                if mixing == "lu":
                    layers.append(LULinear(features))
                elif mixing == "permutation":
                    shuffle = torch.randperm(features, generator=generator)
                    layers.append(Permutation(shuffle))
                    order = order[shuffle]
                layers.append(stack(1, flip=bool(index % 2)))
            if mixing == "permutation":
                layers.append(Permutation(torch.argsort(order)))
        super().__init__(layers)
        self.features = features

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set every `ActNorm` from the rows `x` `(batch, features)`; without any this does nothing."""
        for layer in self.layers:
            if isinstance(layer, ActNorm):
                layer.initialise(x)
            x, _ = layer(x)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}"


def build(config: RealNVPConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> RealNVP:
    """Make the flow for rows of `shape` `(D,)`.

    Raises:
        RecipeError: the rows are not vectors.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise RecipeError(
            f"flow `realnvp` takes vectors, but a row of this data has the shape {tuple(shape)}",
            hint="choose a flow for this kind of data: flowgmm plugins list",
        )
    return RealNVP(
        shape[0],
        couplings=config.couplings,
        hidden=config.hidden,
        depth=config.depth,
        scale_limit=config.scale_limit,
        dropout=config.dropout,
        actnorm=config.actnorm,
        mixing=config.mixing,
        generator=generator,
    )

"""RealNVP for vectors (Dinh, Sohl-Dickstein and Bengio, 2017)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.affine import ActNorm, ElementwiseAffine, initialise_actnorms
from flowgmm_cli.flows.layers.coupling import AffineCoupling, CouplingStack
from flowgmm_cli.flows.layers.linear import LULinear, Permutation
from flowgmm_cli.flows.layers.whitening import DiscriminantWhitening
from flowgmm_cli.flows.specs import RealNVPConfig


class RealNVP(Sequential):
    """Affine couplings, with optional normalisation and mixing before each of them.

    The flow starts as the identity: a last permutation undoes random ones. With `actnorm`, `initialise` makes
    it a standardisation of each feature; with `whitening`, `initialise_from_labels` makes it that map. A flow
    of a single feature, which has no halves, is a learned scale and shift.

    Args:
        features: length of the vector.
        couplings: number of couplings.
        hidden: width of the conditioners' hidden layers.
        depth: number of hidden layers of a conditioner.
        scale_limit: bound on the absolute log-scale of one coupling.
        dropout: probability that a unit of a conditioner is dropped in training.
        whitening: `discriminant` puts a `DiscriminantWhitening` before all couplings.
        actnorm: put an `ActNorm` before each coupling.
        mixing: layer that mixes the features before each coupling.
        generator: draws the weights and permutations, on the CPU.

    Examples:
        >>> import torch
        >>> flow = RealNVP(2, couplings=4, hidden=16, generator=torch.Generator().manual_seed(0))
        >>> z, log_det = flow(torch.randn(5, 2))
        >>> z.shape, log_det.shape
        (torch.Size([5, 2]), torch.Size([5]))
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
        whitening: Literal["none", "discriminant"] = "none",
        actnorm: bool = False,
        mixing: Literal["none", "permutation", "lu"] = "none",
        generator: torch.Generator,
    ) -> None:
        coupling = partial(
            AffineCoupling,
            features,
            hidden=hidden,
            depth=depth,
            scale_limit=scale_limit,
            dropout=dropout,
            generator=generator,
        )
        layers: list[Bijection] = []
        whitening_layer = DiscriminantWhitening(features) if whitening == "discriminant" else None
        if features == 1:
            layers.append(ActNorm(1) if actnorm else ElementwiseAffine(1))
        elif not actnorm and mixing == "none":
            layers.append(CouplingStack(coupling(flip=bool(index % 2)) for index in range(couplings)))
        else:
            order = torch.arange(features)
            for index in range(couplings):
                if actnorm:
                    layers.append(ActNorm(features))
                if mixing == "lu":
                    layers.append(LULinear(features))
                elif mixing == "permutation":
                    permutation = torch.randperm(features, generator=generator)
                    layers.append(Permutation(permutation))
                    order = order[permutation]
                layers.append(CouplingStack([coupling(flip=bool(index % 2))]))
            if mixing == "permutation":
                layers.append(Permutation(torch.argsort(order)))
        super().__init__([whitening_layer, *layers] if whitening_layer else layers)
        self.features = features

    @property
    def view_space(self) -> Bijection | None:
        """Layer behind which views change features; None = views change the input of the flow."""
        first = self.layers[0]
        return first if isinstance(first, DiscriminantWhitening) else None

    def initialise_from_labels(self, x: Tensor, labelled: Tensor, labels: Tensor) -> None:
        """Fit the whitening to rows `x` `(N, features)` and to labelled rows with their `labels`."""
        if isinstance(self.view_space, DiscriminantWhitening):
            self.view_space.fit(x, labelled, labels)

    def initialise(self, x: Tensor) -> None:
        """Initialise every `ActNorm` from rows `x` `(batch, features)`."""
        initialise_actnorms(self, x)


def build(config: RealNVPConfig, *, shape: tuple[int, ...], generator: torch.Generator) -> RealNVP:
    """Build the flow for rows of `shape` `(D,)`.

    Raises:
        RecipeError: the rows are not vectors.
    """
    if len(shape) != 1 or shape[0] < 1:
        raise RecipeError(
            f"flow `realnvp` takes vectors, but a row of this data has the shape {tuple(shape)}",
            hint="choose a flow for this kind of data: flowgmm plugins list",
        )
    return RealNVP(shape[0], **config.model_dump(), generator=generator)

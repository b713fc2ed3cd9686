"""Specs of the built-in flow architectures."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, Field, FlowSpec, Spec


class RealNVPConfig(Config):
    """Parameters of `realnvp`."""

    couplings: int = Field(6, ge=1, le=128, description="number of affine couplings")
    hidden: int = Field(512, ge=1, description="width of the conditioners' hidden layers")
    depth: int = Field(2, ge=1, le=16, description="number of hidden layers of a conditioner")
    scale_limit: float = Field(1.0, gt=0, description="largest absolute log-scale of one coupling")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of a conditioner's units that are dropped in training, after its first ReLU",
    )
    actnorm: bool = Field(
        False, description="standardise each feature before each coupling, at first from the data"
    )
    mixing: Literal["none", "permutation", "lu"] = Field(
        "none",
        description="what mixes the features before each coupling: nothing (the halves swap roles), a fixed "
        "random permutation, or a learned linear map",
    )


SPECS: dict[str, Spec] = {
    "realnvp": FlowSpec(
        config=RealNVPConfig,
        build="flowgmm_cli.flows.realnvp:build",
        summary="Affine couplings on the halves of a vector (Dinh et al., 2017)",
        docs="Each coupling scales and shifts one half of the vector by a function of the other half; the "
        "halves swap roles from coupling to coupling. Forward and inverse cost one pass each. The flow "
        "starts as the identity (with `actnorm`: as a standardisation of each feature).",
    )
}

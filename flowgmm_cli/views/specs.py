"""Specs of the built-in views."""

from __future__ import annotations

from flowgmm_cli.api import Config, Field, Spec, ViewSpec


class NoiseConfig(Config):
    """Parameters of `noise`."""

    scale: float = Field(0.5, ge=0, description="standard deviation, in units of the transformed features")


class DropConfig(Config):
    """Parameters of `drop`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features set to 0, their mean")


class CorruptConfig(Config):
    """Parameters of `corrupt`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features replaced by another row's")


SPECS: dict[str, Spec] = {
    "noise": ViewSpec(
        config=NoiseConfig,
        build="flowgmm_cli.views.noise:Noise",
        summary="Add Gaussian noise",
    ),
    "drop": ViewSpec(
        config=DropConfig,
        build="flowgmm_cli.views.drop:Drop",
        summary="Set a random share of the features to 0",
    ),
    "corrupt": ViewSpec(
        config=CorruptConfig,
        build="flowgmm_cli.views.corrupt:Corrupt",
        summary="Replace a random share of the features by those of other rows",
        docs="SCARF (Bahri et al., 2022): a replaced feature is a draw from its marginal, the batch's, so "
        "that it stays a value the column can have.",
    ),
}

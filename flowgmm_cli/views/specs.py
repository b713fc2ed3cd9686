"""Specs of the built-in views."""

from __future__ import annotations

from flowgmm_cli.api import Config, Field, Spec, ViewSpec


class NoiseConfig(Config):
    """Parameters of `noise`."""

    scale: float = Field(0.5, ge=0, description="standard deviation, in units of the transformed features")


class DropConfig(Config):
    """Parameters of `drop`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features set to 0, their mean")


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
}

"""Specs of the built-in views."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, Field, TextViewConfig, ViewSpec


class NoiseConfig(Config):
    """Parameters of `noise`."""

    scale: float = Field(0.5, ge=0, description="standard deviation, in units of the transformed features")


class DropConfig(Config):
    """Parameters of `drop`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features set to 0, their mean")


class CorruptConfig(Config):
    """Parameters of `corrupt`."""

    rate: float = Field(0.2, ge=0, lt=1, description="share of the features replaced by another row's")


class AffineConfig(Config):
    """Parameters of `affine`; each change is drawn evenly from 0 to the largest, either way."""

    pixels: float = Field(1.0, ge=0, description="largest shift along either side, in pixels")
    degrees: float = Field(0.0, ge=0, le=180, description="largest turn")
    zoom: float = Field(0.0, ge=0, le=4, description="largest change of size; 0.1 = from 1/1.1 to 1.1")
    shear: float = Field(0.0, ge=0, lt=90, description="largest slant, in degrees")
    padding: Literal["zeros", "border", "reflection"] = Field(
        "zeros", description="what moves in from outside: 0, the nearest pixel, or the mirrored image"
    )


class DropWordsConfig(TextViewConfig):
    """Parameters of `drop_words`."""

    rate: float = Field(0.1, ge=0, lt=1, description="share of the words left out")


SPECS: dict[str, ViewSpec] = {
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
    "affine": ViewSpec(
        config=AffineConfig,
        build="flowgmm_cli.views.affine:Affine",
        level="inputs",
        summary="Shift, turn, scale and shear images a little",
        docs="Acts on the pixels, before the transforms: columns whose entries have the shape (height, "
        "width) or (channels, height, width). All changes are made in one linear interpolation.",
    ),
    "drop_words": ViewSpec(
        config=DropWordsConfig,
        build="flowgmm_cli.views.drop_words:DropWords",
        level="text",
        summary="Leave out a random share of the words of a text",
        docs="Acts on the texts, before they are encoded: `copies` changed copies of each training text are "
        "encoded before training, and each step picks one of them.",
    ),
}

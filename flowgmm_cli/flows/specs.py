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
        description="probability that a unit after a conditioner's first ReLU is dropped in training",
    )
    whitening: Literal["none", "discriminant"] = Field(
        "none",
        description="fixed first layer: none, or the inverse root of the covariance within the classes, "
        "estimated from the labelled rows; changes of features by `data.views` then act behind it",
    )
    actnorm: bool = Field(False, description="standardise features before a coupling, initialised from data")
    mixing: Literal["none", "permutation", "lu"] = Field(
        "none",
        description="layer that mixes the features before each coupling: none (the halves swap roles), a "
        "fixed random permutation, or a learned linear map",
    )


class ImageFlowConfig(Config):
    """Parameters of all flows of images."""

    hidden: int = Field(64, ge=1, description="channels of the conditioners' hidden layers")
    coupling: Literal["affine", "spline"] = Field(
        "affine",
        description="map of each number in a coupling: scale and shift, or these and a "
        "rational-quadratic spline, at a higher cost",
    )
    bins: int = Field(8, ge=2, le=64, description="bins of a spline, with `coupling: spline`")
    scale_limit: float = Field(2.0, gt=0, description="largest absolute log-scale of one coupling")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="probability that a hidden channel of a conditioner is dropped in training",
    )
    dequantisation: Literal["uniform", "variational"] = Field(
        "uniform",
        description="noise added to pixels: that of the transform `dequantise`, or this noise mapped inside "
        "each pixel's cell by a small learned flow, which tightens the bound on the likelihood",
    )
    levels: int = Field(
        256,
        ge=2,
        le=4096,
        description="levels of a pixel, as of the transform `dequantise`; with `dequantisation: variational`",
    )
    noise_couplings: int = Field(
        0,
        ge=0,
        le=16,
        description="couplings of that small flow, after a scale and shift of each pixel's noise that depend "
        "on the image around it; with `dequantisation: variational`",
    )
    noise_hidden: int = Field(
        32, ge=1, description="channels of its conditioners, with `dequantisation: variational`"
    )
    logit: float | None = Field(
        0.05,
        gt=0,
        lt=0.5,
        description="a in logit(a + (1 - 2a) x), the first layer, for pixels in [0, 1]; null for rows that "
        "are not dequantised pixels",
    )
    checkpointing: bool = Field(
        False, description="recompute steps in the backward pass instead of keeping their activations"
    )


class RealNVPImageConfig(ImageFlowConfig):
    """Parameters of `realnvp_image`."""

    scales: int = Field(2, ge=1, le=8, description="number of scales; the image halves between them")
    checkerboard: int = Field(
        3, ge=1, le=64, description="checkerboard couplings of each scale; the last has one more"
    )
    channel: int = Field(3, ge=0, le=64, description="channel couplings of each scale but the last")
    blocks: int = Field(2, ge=0, le=32, description="residual blocks of a conditioner")
    actnorm: bool = Field(True, description="standardise channels before a coupling, initialised from data")


class GlowConfig(ImageFlowConfig):
    """Parameters of `glow`."""

    scales: int = Field(2, ge=1, le=8, description="number of scales; the image halves at each of them")
    steps: int = Field(8, ge=1, le=128, description="steps of a scale: actnorm, 1 by 1 convolution, coupling")


SPECS: dict[str, Spec] = {
    "realnvp": FlowSpec(
        config=RealNVPConfig,
        build="flowgmm_cli.flows.realnvp:build",
        summary="Affine couplings on the halves of a vector (Dinh et al., 2017)",
        docs="Each coupling scales and shifts one half of the vector by a function of the other half; the "
        "halves swap roles from coupling to coupling. Forward and inverse cost one pass each. The flow "
        "starts as the identity (with `actnorm`: as a standardisation of each feature).",
    ),
    "realnvp_image": FlowSpec(
        config=RealNVPImageConfig,
        build="flowgmm_cli.flows.realnvp_image:RealNVPImage",
        summary="Multi-scale couplings of images with residual networks (Dinh et al., 2017)",
        accepts=frozenset({"image"}),
        conformance="flowgmm_cli.testing.flows:RealNVPImageConformance",
        docs="Each scale has couplings of the two colours of a checkerboard, then of channels; then half of "
        "the channels leave as latents and the image continues at half the size. Rows are dequantised pixels "
        "in [0, 1]; with `logit: null` any numbers. Latents come coarsest scale first. 28 by 28 pixels fit 3 "
        "scales, 32 by 32 fit 6.",
    ),
    "glow": FlowSpec(
        config=GlowConfig,
        build="flowgmm_cli.flows.glow:Glow",
        summary="Multi-scale steps of actnorm, 1x1 convolution and coupling (Kingma and Dhariwal, 2018)",
        accepts=frozenset({"image"}),
        conformance="flowgmm_cli.testing.flows:GlowConformance",
        docs="Each scale turns blocks of 2 by 2 pixels into channels, mixes and couples them in steps, and "
        "lets half of them leave as latents. Rows are dequantised pixels in [0, 1]; with "
        "`logit: null` any numbers. Latents come coarsest scale first. 28 by 28 pixels fit 2 scales, 32 by "
        "32 fit 5.",
    ),
}

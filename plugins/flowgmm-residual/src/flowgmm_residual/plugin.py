"""Parameters and spec; imports no torch."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, Field, FlowSpec


class ResidualConfig(Config):
    """Parameters of `residual`."""

    blocks: int = Field(8, ge=1, le=256, description="number of residual blocks")
    hidden: int = Field(128, ge=1, le=8192, description="width of a block's hidden layers")
    depth: int = Field(2, ge=1, le=16, description="number of hidden layers of a block")
    lipschitz: float = Field(
        0.95,
        gt=0,
        le=0.999,
        description="bound on the Lipschitz constant of a block's network; the nearer to 1, the more a "
        "block can do and the slower it is undone",
    )
    actnorm: bool = Field(
        True, description="scale and shift each feature before each block, at first from the data"
    )
    log_det: Literal["auto", "exact", "estimate"] = Field(
        "auto",
        description="exact: from the Jacobian; estimate: from the power series; auto: exact up to 8 features "
        "in training and up to 64 in evaluation",
    )
    exact_terms: int = Field(
        2, ge=1, le=100, description="terms of the power series that are always taken in training"
    )
    continuation: float = Field(
        0.5,
        ge=0.05,
        le=0.95,
        description="probability to go on after each further term; larger = more terms and less variance",
    )
    eval_terms: int = Field(
        30, ge=1, le=1000, description="terms of the power series in evaluation, where it is used"
    )
    eval_probes: int = Field(
        8, ge=1, le=1024, description="fixed random directions that estimate a trace in evaluation"
    )
    tolerance: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="change of a row, as a share of its size, at which the inverse is found; by default what "
        "the number format can tell",
    )
    max_iterations: int = Field(
        1000, ge=1, le=1_000_000, description="steps after which the inverse of a block is given up"
    )


RESIDUAL = FlowSpec(
    config=ResidualConfig,
    build="flowgmm_residual.model:build",
    summary="Residual flow: blocks x + g(x) with Lipschitz-bounded g (Chen et al., 2019)",
    docs="Every feature may depend on every other in each block. In training the log-determinant of more "
    "than a few features is an unbiased estimate (a power series cut off at random); in evaluation it is "
    "exact, or for many features a long series with fixed directions, so that a row always gets the same "
    "density. The inverse is a fixed-point iteration.",
    conformance="flowgmm_residual.conformance:ResidualConformance",
)

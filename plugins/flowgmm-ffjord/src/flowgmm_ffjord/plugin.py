"""Parameters and specs; imports neither torch nor torchdiffeq."""

from __future__ import annotations

from typing import Literal

from flowgmm_cli.api import Config, Field, FlowSpec, RegulariserConfig, RegulariserSpec


class FfjordConfig(Config):
    """Parameters of `ffjord`."""

    hidden: int = Field(64, ge=1, le=8192, description="width of the velocity network's hidden layers")
    depth: int = Field(2, ge=1, le=16, description="number of hidden layers of the velocity network")
    time: float = Field(1.0, gt=0, le=100, description="how long a row follows the velocity")
    method: Literal[
        "dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun", "euler", "midpoint", "heun3", "rk4"
    ] = Field(
        "dopri5",
        description="solver; euler, midpoint, heun3 and rk4 take `steps` equal steps, the others as many as "
        "`rtol` and `atol` need",
    )
    rtol: float = Field(1e-5, gt=0, lt=1, description="relative tolerance of a solver that chooses its steps")
    atol: float = Field(1e-5, gt=0, lt=1, description="absolute tolerance of a solver that chooses its steps")
    max_steps: int = Field(
        2000, ge=1, le=1_000_000, description="steps after which a solver that chooses them gives up"
    )
    steps: int = Field(16, ge=1, le=10_000, description="steps of a solver with equal steps")
    adjoint: bool = Field(
        False,
        description="find gradients by solving backwards (Chen et al., 2018): less memory, more time, and as "
        "exact as the solver only",
    )
    trace: Literal["auto", "exact", "estimate"] = Field(
        "auto",
        description="exact: from the Jacobian; estimate: along random directions, fixed for a call; auto: "
        "exact up to 8 features in training and up to 64 in evaluation",
    )
    eval_probes: int = Field(
        8, ge=1, le=1024, description="fixed random directions that estimate a trace in evaluation"
    )


class RnodeConfig(RegulariserConfig):
    """Parameters of `rnode`."""

    weight: float = Field(0.01, ge=0, description="factor on its terms")
    kinetic: float = Field(1.0, ge=0, description="weight of the kinetic energy")
    jacobian: float = Field(1.0, ge=0, description="weight of the squared norm of the velocity's Jacobian")
    rows: int = Field(
        256, ge=1, le=1_000_000, description="unlabelled rows of a batch whose paths are looked at, at most"
    )


FFJORD = FlowSpec(
    config=FfjordConfig,
    build="flowgmm_ffjord.model:build",
    summary="Continuous flow: rows follow a learned velocity (Grathwohl et al., 2019)",
    docs="The log-determinant is the integral of the velocity's divergence: exact for few features, "
    "estimated along random directions for many. Add the regulariser `rnode`, which keeps paths straight and "
    "so the solver's steps few. With a solver that chooses its steps, rows of a batch share them, and "
    "results depend on the batch within the tolerances; rk4 maps each row by itself.",
    conformance="flowgmm_ffjord.conformance:FfjordConformance",
)
RNODE = RegulariserSpec(
    config=RnodeConfig,
    build="flowgmm_ffjord.regulariser:Rnode",
    summary="Straight paths of `ffjord`: kinetic energy and Jacobian norm (Finlay et al., 2020)",
    docs="Only for models with the flow `ffjord`. Follows the paths of up to `rows` unlabelled rows once "
    "more. Both terms are divided by D.",
    conformance="flowgmm_ffjord.conformance:RnodeConformance",
)

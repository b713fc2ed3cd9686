"""Specs of the built-in objectives."""

from __future__ import annotations

from typing import Annotated, Literal

from flowgmm_cli.api import Config, Field, ObjectiveSpec, Spec


class HybridConfig(Config):
    """Parameters of `hybrid`."""

    labelled: float = Field(1.0, ge=0, description="weight of the cross-entropy of labelled rows")
    density: float = Field(0.2, ge=0, description="weight of -log p(x) / D of all rows")
    temperature: float | None = Field(
        None, gt=0, description="divisor of class log-probabilities; by default sqrt(D) / 4, at least 1"
    )
    rows: Literal["strong", "weak"] = Field(
        "strong", description="view of the unlabelled rows whose density is learned"
    )
    per_dimension: bool = Field(True, description="divide the density term by D")
    label_noise: Annotated[float, Field(ge=0, lt=0.5)] | Literal["auto"] = Field(
        0.0, description="share of wrong labels among the labelled rows; auto = estimated before training"
    )


class JointConfig(Config):
    """Parameters of `joint`."""

    labelled: float | None = Field(
        None, ge=0, description="weight of the mean over labelled rows; by default their share of all rows"
    )
    unlabelled: float | None = Field(
        None, ge=0, description="weight of the mean over unlabelled rows; by default their share of all rows"
    )
    pool: Literal["unlabelled", "all"] = Field(
        "unlabelled",
        description="rows of the second mean: those without a label, or all rows with labels hidden",
    )
    class_weights: bool = Field(
        True, description="log p(x, y) of labelled rows; false: log p(x | y), without the class's weight"
    )
    per_dimension: bool = Field(True, description="divide both terms by D")


SPECS: dict[str, Spec] = {
    "hybrid": ObjectiveSpec(
        config=HybridConfig,
        build="flowgmm_cli.objectives.losses:Hybrid",
        summary="Tempered cross-entropy of labelled rows and density of all rows, per dimension",
        docs="The joint likelihood weighs a row's D coordinates against a single class, so labels drown as D "
        "grows. Here the two have weights of their own, and the density is divided by D, so that one setting "
        "fits every dimension.",
    ),
    "joint": ObjectiveSpec(
        config=JointConfig,
        build="flowgmm_cli.objectives.losses:Joint",
        summary="Exact likelihood: log p(x, y) of labelled rows, log p(x) of unlabelled ones",
        docs="Izmailov et al. (2020), equation 4. Use it without regularisers and with "
        "`data.views.strong: []` for the paper's plain FlowGMM. What the paper's program minimises on tables "
        "and text is `{labelled: 1, unlabelled: a, pool: all, class_weights: false, per_dimension: false}`; "
        "see the recipes `paper/...`.",
    ),
}

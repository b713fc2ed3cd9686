"""Spec of the built-in latent distribution."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from flowgmm_cli.api import Config, Field, PriorSpec, Spec


class GMMConfig(Config):
    """Parameters of `gmm`."""

    means: Literal["labelled", "logistic_regression", "random", "simplex"] = Field(
        "labelled",
        description="where the class means start: class means of the labelled rows, of all rows weighted by "
        "a quick logistic regression, a random draw, or equal distances",
    )
    separation: float | None = Field(
        None,
        gt=0,
        description="distance between means for `random` (on average; default sqrt(2 D)) and `simplex` "
        "(default 6 times `scale`)",
    )
    scale: float = Field(1.0, gt=0, description="standard deviation the components start with")
    covariance: Literal["isotropic", "diagonal"] = Field(
        "isotropic", description="one standard deviation per component, or one per component and dimension"
    )
    shared_covariance: bool = Field(False, description="the same covariance for all classes")
    learn_means: bool = Field(True, description="train the means")
    learn_scales: bool = Field(True, description="train the standard deviations")
    class_prior: Literal["uniform", "labelled", "given", "estimated"] = Field(
        "uniform",
        description="class weights: equal, the labelled rows' frequencies, `weights`, or estimated from all "
        "rows during training",
    )
    weights: list[float] | None = Field(
        None, description="class weights for `class_prior: given`, in the order of the class names; any sum"
    )

    @model_validator(mode="after")
    def _weights_match_class_prior(self) -> GMMConfig:
        if self.class_prior == "given" and self.weights is None:
            raise ValueError("class_prior: given needs `weights`, one number for each class")
        if self.class_prior != "given" and self.weights is not None:
            raise ValueError(f"`weights` needs class_prior: given, not {self.class_prior}")
        if self.weights is not None and any(weight <= 0 for weight in self.weights):
            raise ValueError("every one of `weights` must be above 0")
        return self


SPECS: dict[str, Spec] = {
    "gmm": PriorSpec(
        config=GMMConfig,
        build="flowgmm_cli.mixture.gaussian:build",
        summary="One Gaussian per class (Izmailov et al., 2020)",
    )
}

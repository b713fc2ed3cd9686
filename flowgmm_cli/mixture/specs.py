"""Spec of the built-in latent distribution."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from flowgmm_cli.api import Config, Field, PriorSpec, Spec


class GMMConfig(Config):
    """Parameters of `gmm`."""

    means: Literal[
        "labelled", "logistic_regression", "label_spreading", "kmeans", "latent", "random", "simplex", "given"
    ] = Field(
        "labelled",
        description="initial means: class means of the labelled rows; of all rows, weighted by a logistic "
        "regression or by label spreading over nearest neighbours; k-means clusters matched to the classes; "
        "class means of the labelled rows and, after `warm_up_epochs`, of all latents; a normal draw; the "
        "corners of a regular simplex, all equally far apart; or the `points`",
    )
    points: list[list[float]] | None = Field(
        None,
        description="the means for `means: given`, one list of latent coordinates for each Gaussian, in the "
        "order of the class names",
    )
    separation: float | None = Field(
        None,
        gt=0,
        description="distance between means for `random` (on average; default sqrt(2 D)) and `simplex` "
        "(default 6 times `scale`)",
    )
    warm_up_epochs: float = Field(
        2.0,
        gt=0,
        description="epochs after which `means: latent` recomputes the means, at most half of the training",
    )
    components: int = Field(1, ge=1, description="Gaussians of each class")
    dims: int | None = Field(
        None,
        ge=1,
        description="number of latent dimensions that carry the classes, from the first on (after a `pca` "
        "transform the leading components); the others are standard normal; null = all",
    )
    scales: int | None = Field(
        None,
        ge=1,
        description="the same for a flow of several scales: number of scales that carry the classes, from "
        "the coarsest on; null = all",
    )
    scale: float = Field(1.0, gt=0, description="initial standard deviation of the components")
    covariance: Literal["isotropic", "diagonal"] = Field(
        "isotropic", description="one standard deviation per component, or one per component and dimension"
    )
    shared_covariance: bool = Field(False, description="the same covariance for all components")
    learn_means: bool = Field(True, description="train the means")
    learn_scales: bool = Field(True, description="train the standard deviations")
    learn_weights: bool = Field(False, description="train the class weights, from those of `class_prior` on")
    learn_component_weights: bool = Field(
        True, description="train the weights of the components within their class, if there are several"
    )
    learn_rest: bool = Field(
        False, description="train mean and standard deviation of the dimensions beyond `dims`, from 0 and 1"
    )
    class_prior: Literal["uniform", "labelled", "given", "estimated"] = Field(
        "uniform",
        description="class weights: equal, the labelled rows' frequencies, `weights`, or estimated from all "
        "rows during training",
    )
    unknown: Literal["auto", "off"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="kinds of unlabelled rows that belong to none of the classes: `auto` looks for such "
        "rows, and a number is that of their kinds; `off` for none",
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
        if self.class_prior == "estimated" and self.learn_weights:
            raise ValueError(
                "class_prior: estimated sets the class weights after each pass; learn_weights must be false"
            )
        return self

    @model_validator(mode="after")
    def _points_match_means(self) -> GMMConfig:
        if self.means == "given" and self.points is None:
            raise ValueError("means: given needs `points`, one list of coordinates for each Gaussian")
        if self.means != "given" and self.points is not None:
            raise ValueError(f"`points` needs means: given, not {self.means}")
        return self

    @model_validator(mode="after")
    def _learn_rest_needs_nuisance_dimensions(self) -> GMMConfig:
        if self.dims is not None and self.scales is not None:
            raise ValueError("give `dims` or `scales`, not both: each says which dimensions carry classes")
        if self.learn_rest and self.dims is None and self.scales is None:
            raise ValueError("learn_rest needs `dims` or `scales`: without, all dimensions carry classes")
        return self


SPECS: dict[str, Spec] = {
    "gmm": PriorSpec(
        config=GMMConfig,
        build="flowgmm_cli.mixture.build:build",
        summary="Gaussians for each class, one by default (Izmailov et al., 2020)",
    )
}

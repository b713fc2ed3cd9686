"""Specs of the built-in out-of-distribution scores; for all of them, higher means further out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from flowgmm_cli.api import Component, Config, Field, ScoreSpec, Spec, component_field


class NoParameters(Config):
    """A score without parameters."""


class TypicalityConfig(Config):
    """Parameters of `typicality`."""

    centre: Literal["mean", "median"] = Field(
        "mean", description="average of the held-out rows that counts as typical"
    )


class KnnConfig(Config):
    """Parameters of `latent_knn` and `input_knn`."""

    k: int = Field(10, ge=1, le=1000, description="number of nearest rows")
    distance: Literal["mean", "kth"] = Field(
        "mean", description="mean distance to the k nearest rows, or distance to the k-th"
    )
    scale: Literal["none", "standardise", "unit"] = Field(
        "none",
        description="none = distances as they are; standardise = every feature to standard deviation 1; "
        "unit = every row to length 1, so that only the direction counts",
    )
    rows: int = Field(2000, ge=1, le=50_000, description="largest number of training rows to store")


class AngleKnnConfig(KnnConfig):
    """Parameters of `angle_knn`."""

    scale: Literal["none", "standardise", "unit"] = Field(
        "unit", description="unit = every row to length 1, so that only the direction counts; see `input_knn`"
    )


class LabelDistanceConfig(Config):
    """Parameters of `label_distance`."""

    scale: Literal["none", "unit"] = Field(
        "none", description="unit = rows and means to length 1, so that only the direction counts"
    )


class LabelAngleConfig(LabelDistanceConfig):
    """Parameters of `label_angle`."""

    scale: Literal["none", "unit"] = Field(
        "unit", description="unit = only the direction counts; see `label_distance`"
    )


class MahalanobisConfig(Config):
    """Parameters of `mahalanobis` and `class_mahalanobis`."""

    shrinkage: Literal["ledoit_wolf", "none"] = Field(
        "ledoit_wolf", description="shrinkage of the covariance towards a sphere"
    )


class DensityOfStatesConfig(Config):
    """Parameters of `density_of_states`."""

    bandwidth: float = Field(1.0, gt=0, description="factor on Scott's bandwidth")
    rows: int = Field(2000, ge=2, le=20_000, description="largest number of training rows to store")


class LikelihoodRatioConfig(Config):
    """Parameters of `likelihood_ratio`."""

    mutation: float = Field(0.2, ge=0, le=1, description="share of pixels to replace at random")
    rank: int = Field(64, ge=1, le=512, description="principal directions of the background")


class CombinedConfig(Config):
    """Parameters of `combined`."""

    of: list[Component] = component_field(
        "score", [{"use": "entropy"}, {"use": "latent_knn"}, {"use": "angle_knn"}], description="the scores"
    )
    how: Literal["sum", "max"] = Field(
        "sum", description="sum = far in several ways; max = far in one way is enough"
    )

    @model_validator(mode="after")
    def _has_scores(self) -> CombinedConfig:
        if not self.of:
            raise ValueError("of is empty; it must list the scores to combine")
        return self


def _spec(
    build: str, summary: str, docs: str, config: type[Config] = NoParameters, **reads: Any
) -> ScoreSpec:
    build = f"flowgmm_cli.scores.{build}"
    return ScoreSpec(config=config, build=build, summary=summary, docs=docs, **reads)


SPECS: dict[str, Spec] = {
    "combined": _spec(
        "combination:Combined",
        "Several scores as one, through their tail probabilities on held-out rows",
        "Fisher's combination of tests (1932): -log of the share of held-out rows that score higher, "
        "summed over the scores, or the largest. Beyond the last held-out row a generalised Pareto tail "
        "keeps the order of far rows.",
        CombinedConfig,
    ),
    "entropy": _spec(
        "posterior:Entropy",
        "Entropy of the calibrated posterior: uncertainty between the classes",
        "In nats, from 0 to log K. Detects rows between classes; rows far beyond a class look certain.",
    ),
    "max_posterior": _spec(
        "posterior:MaxPosterior",
        "Log-odds against the most probable class, with full resolution near certainty",
        "Hendrycks and Gimpel (2017). In the order of 1 - max p(k|x), but as log-odds, which do not "
        "saturate.",
    ),
    "latent_knn": _spec(
        "neighbours:LatentKnn",
        "Distance to the nearest training rows in the latent space",
        "Sun et al. (2022), on z.",
        KnnConfig,
    ),
    "input_knn": _spec(
        "neighbours:InputKnn",
        "Distance to the nearest training rows in the flow's input space",
        "Sun et al. (2022), on the rows after the transforms of the recipe. Does not use the model.",
        KnnConfig,
    ),
    "angle_knn": _spec(
        "neighbours:InputKnn",
        "Distance to the nearest training rows in the flow's input space, by direction only",
        "Sun et al. (2022), who scale every row to length 1. Compares the contents of rows of any "
        "length. Does not use the model.",
        AngleKnnConfig,
    ),
    "nll": _spec(
        "density:Nll",
        "-log p(x); by itself a poor score for images and texts",
        "In nats. Simple rows often get a higher density than the training rows themselves (Nalisnick "
        "et al., 2019a; Kirichenko et al., 2020), so it is never a good first choice for images.",
    ),
    "typicality": _spec(
        "density:Typicality",
        "|-log p(x) - mean of held-out rows|: rows that are too likely are strange, too",
        "Nalisnick et al. (2019b), for single rows.",
        TypicalityConfig,
    ),
    "latent_radius": _spec(
        "density:LatentRadius",
        "Distance from the shell on which the nearest Gaussian's mass lies",
        "|min over the components of |z - mu|^2/s^2 - D| / sqrt(2 D): about standard normal in absolute "
        "value for rows of a perfect model.",
    ),
    "class_mahalanobis": _spec(
        "mahalanobis:ClassMahalanobis",
        "Mahalanobis distance to the nearest class in the latent space, one covariance for all",
        "Lee et al. (2018), with the classes the model predicts for its training rows.",
        MahalanobisConfig,
    ),
    "mahalanobis": _spec(
        "mahalanobis:Mahalanobis",
        "Mahalanobis distance to the training rows in the flow's input space, one Gaussian",
        "Does not use the model.",
        MahalanobisConfig,
    ),
    "density_of_states": _spec(
        "density:DensityOfStates",
        "Rarity of a row's combination of density, log-det, radius, entropy and kNN distance",
        "Morningstar et al. (2021): a kernel density estimate over standardised statistics of training rows.",
        DensityOfStatesConfig,
    ),
    "unknown": _spec(
        "posterior:UnknownKind",
        "Log-odds of an unknown kind that the unlabelled rows hold, see `prior.unknown`",
        "Only for models that know of unknown kinds.",
        reads="unknown",
    ),
    "label_posterior": _spec(
        "labelled:LabelPosterior",
        "Log-odds against the most probable class of logistic regression on the labelled rows",
        "Hendrycks and Gimpel (2017), on the rows after the transforms of the recipe. Uses neither the model "
        "nor unlabelled rows.",
    ),
    "label_distance": _spec(
        "labelled:LabelDistance",
        "Distance to the nearest class mean of the labelled rows in the flow's input space",
        "On the rows after the transforms of the recipe. Uses neither the model nor unlabelled rows.",
        LabelDistanceConfig,
    ),
    "label_angle": _spec(
        "labelled:LabelDistance",
        "Distance to the nearest class mean of the labelled rows, by direction only",
        "Of texts, whose length in the input space says little, it compares the contents. Uses neither the "
        "model nor unlabelled rows.",
        LabelAngleConfig,
    ),
    "likelihood_ratio": _spec(
        "images:LikelihoodRatio",
        "Images: density of a background model minus that of this one",
        "Ren et al. (2019). The background is small: a low-rank Gaussian of pixels (probabilistic PCA), "
        "fitted to training images in which random pixels replace some others.",
        LikelihoodRatioConfig,
        reads="images",
    ),
    "compression": _spec(
        "images:Compression",
        "Images: bits by the model minus bits by a general compressor",
        "Serra et al. (2020), with the filters of PNG and zlib as the compressor. Corrects for images "
        "that are likely only because they are simple.",
        reads="images",
    ),
}

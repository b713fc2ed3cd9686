"""Specs of the built-in out-of-distribution scores: of all of them, higher means further out."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from flowgmm_cli.api import Component, Config, Field, ScoreSpec, Spec, component_field


class NoParameters(Config):
    """A score without parameters."""


class TypicalityConfig(Config):
    """Parameters of `typicality`."""

    centre: Literal["mean", "median"] = Field("mean", description="what typical is, of the held-out rows")


class KnnConfig(Config):
    """Parameters of `latent_knn` and `input_knn`."""

    k: int = Field(10, ge=1, le=1000, description="number of nearest rows")
    distance: Literal["mean", "kth"] = Field("mean", description="of the k nearest rows, or to the k-th")
    scale: Literal["none", "standardise", "unit"] = Field(
        "none",
        description="none = distances as they are; standardise = every feature to standard deviation 1; "
        "unit = every row to length 1, so that only directions count",
    )
    rows: int = Field(2000, ge=1, le=50_000, description="training rows that are kept, at most")


class AngleKnnConfig(KnnConfig):
    """Parameters of `angle_knn`."""

    scale: Literal["none", "standardise", "unit"] = Field(
        "unit", description="unit = every row to length 1, so that only directions count; see `input_knn`"
    )


class MahalanobisConfig(Config):
    """Parameters of `mahalanobis` and `class_mahalanobis`."""

    shrinkage: Literal["ledoit_wolf", "none"] = Field(
        "ledoit_wolf", description="how the covariance is drawn towards a sphere"
    )


class DensityOfStatesConfig(Config):
    """Parameters of `density_of_states`."""

    bandwidth: float = Field(1.0, gt=0, description="factor on Scott's bandwidth")
    rows: int = Field(2000, ge=2, le=20_000, description="training rows that are kept, at most")


class LikelihoodRatioConfig(Config):
    """Parameters of `likelihood_ratio`."""

    mutation: float = Field(0.2, ge=0, le=1, description="share of pixels that are replaced at random")
    rank: int = Field(64, ge=1, le=512, description="principal directions of the background")


class CombinedConfig(Config):
    """Parameters of `combined`."""

    of: list[Component] = component_field(
        "score",
        [{"use": "entropy"}, {"use": "latent_knn"}, {"use": "angle_knn"}],
        description="the scores",
    )
    how: Literal["sum", "max"] = Field(
        "sum", description="sum = far in several ways; max = far in one way is enough"
    )

    @model_validator(mode="after")
    def _has_scores(self) -> CombinedConfig:
        if not self.of:
            raise ValueError("of is empty; it names the scores to combine")
        return self


SPECS: dict[str, Spec] = {
    "combined": ScoreSpec(
        config=CombinedConfig,
        build="flowgmm_cli.scores.combined:Combined",
        summary="Several scores as one, through their tail probabilities on held-out rows",
        docs="Fisher's way (1932) of combining tests: -log of the share of held-out rows that score higher, "
        "summed over the scores, or the largest. Beyond the last held-out row a generalised Pareto tail "
        "keeps far rows in order.",
    ),
    "entropy": ScoreSpec(
        config=NoParameters,
        build="flowgmm_cli.scores.entropy:Entropy",
        summary="Entropy of the calibrated posterior: doubt between the classes",
        docs="In nats, from 0 to log K. Sees rows between classes; rows far beyond one class look certain.",
    ),
    "max_posterior": ScoreSpec(
        config=NoParameters,
        build="flowgmm_cli.scores.max_posterior:MaxPosterior",
        summary="Log-odds against the most probable class, with full resolution near certainty",
        docs="Hendrycks and Gimpel (2017). In the order of 1 - max p(k|x), but as log-odds, which do not "
        "saturate.",
    ),
    "latent_knn": ScoreSpec(
        config=KnnConfig,
        build="flowgmm_cli.scores.latent_knn:LatentKnn",
        summary="Distance to the nearest training rows in the latent space",
        docs="Sun et al. (2022), on z.",
    ),
    "input_knn": ScoreSpec(
        config=KnnConfig,
        build="flowgmm_cli.scores.input_knn:InputKnn",
        summary="Distance to the nearest training rows in the flow's input space",
        docs="Sun et al. (2022), on the rows as the transforms of the recipe leave them. Owes nothing to the "
        "model.",
    ),
    "angle_knn": ScoreSpec(
        config=AngleKnnConfig,
        build="flowgmm_cli.scores.input_knn:InputKnn",
        summary="Distance to the nearest training rows in the flow's input space, by direction alone",
        docs="Sun et al. (2022), who scale every row to length 1. Sees what a row is about, however long or "
        "short it is. Owes nothing to the model.",
    ),
    "nll": ScoreSpec(
        config=NoParameters,
        build="flowgmm_cli.scores.nll:Nll",
        summary="-log p(x); alone it is a poor score for images and texts",
        docs="In nats. Simple rows often get a higher density than the training rows themselves (Nalisnick "
        "et al., 2019a; Kirichenko et al., 2020), so it is never a good first choice for images.",
    ),
    "typicality": ScoreSpec(
        config=TypicalityConfig,
        build="flowgmm_cli.scores.typicality:Typicality",
        summary="|-log p(x) - mean of held-out rows|: too likely is strange, too",
        docs="Nalisnick et al. (2019b), for single rows.",
    ),
    "latent_radius": ScoreSpec(
        config=NoParameters,
        build="flowgmm_cli.scores.latent_radius:LatentRadius",
        summary="Distance from the shell on which the nearest Gaussian's mass lies",
        docs="|min over the components of |z - mu|^2/s^2 - D| / sqrt(2 D): about standard normal in absolute "
        "value for rows of a perfect model.",
    ),
    "class_mahalanobis": ScoreSpec(
        config=MahalanobisConfig,
        build="flowgmm_cli.scores.class_mahalanobis:ClassMahalanobis",
        summary="Mahalanobis distance to the nearest class in the latent space, one covariance for all",
        docs="Lee et al. (2018), with the classes the model predicts for its training rows.",
    ),
    "mahalanobis": ScoreSpec(
        config=MahalanobisConfig,
        build="flowgmm_cli.scores.mahalanobis:Mahalanobis",
        summary="Mahalanobis distance to the training rows in the flow's input space, one Gaussian",
        docs="Owes nothing to the model.",
    ),
    "density_of_states": ScoreSpec(
        config=DensityOfStatesConfig,
        build="flowgmm_cli.scores.density_of_states:DensityOfStates",
        summary="How rare a row's combination of density, log-det, radius, entropy and kNN distance is",
        docs="Morningstar et al. (2021): a kernel density estimate over standardised statistics of "
        "training rows.",
    ),
    "likelihood_ratio": ScoreSpec(
        config=LikelihoodRatioConfig,
        build="flowgmm_cli.scores.likelihood_ratio:LikelihoodRatio",
        summary="Images: density of a background model minus that of this one",
        docs="Ren et al. (2019). The background is small: a low-rank Gaussian of pixels (probabilistic PCA), "
        "fitted to training images some of whose pixels are replaced at random.",
        reads="images",
    ),
    "compression": ScoreSpec(
        config=NoParameters,
        build="flowgmm_cli.scores.compression:Compression",
        summary="Images: bits by the model minus bits by a general compressor",
        docs="Serra et al. (2020), with the filters of PNG and zlib as the compressor. Corrects for images "
        "that are likely only because they are simple.",
        reads="images",
    ),
}

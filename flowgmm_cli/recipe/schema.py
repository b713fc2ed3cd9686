"""The sections of a recipe, and `Recipe`, the validated recipe with its origin."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from flowgmm_cli.api import Component, Config, Field, component_field, to_plain
from flowgmm_cli.errors import did_you_mean
from flowgmm_cli.recipe.node import describe
from flowgmm_cli.recipe.yaml import write_yaml

STANDARD_SCORES = (
    "combined", "entropy", "max_posterior", "latent_knn", "input_knn", "angle_knn", "nll",
    "class_mahalanobis", "mahalanobis", "density_of_states", "unknown", "label_posterior", "label_distance",
    "label_angle", "likelihood_ratio", "compression",
)  # fmt: skip
"""The scores of `ood.scores` by default. Recipes have to name `typicality` and `latent_radius`, which rank
rows of classes without labels behind ordinary rows on several data sets."""


class EarlyStoppingConfig(Config):
    """Stopping before the last epoch, once the metric of `checkpoint.best` no longer improves."""

    patience: int = Field(ge=1, description="epochs without a better value before training stops")


class TrainConfig(Config):
    """The training of the model."""

    epochs: int = Field(20, ge=1, description="passes over the unlabelled rows")
    max_steps: int | None = Field(None, ge=1, description="stop after this many optimiser steps")
    batch_size: int = Field(1024, ge=1, description="unlabelled rows in a step")
    labelled_batch_size: int = Field(256, ge=1, description="labelled rows in a step, at most all of them")
    optimiser: Literal["adamw", "adam"] = Field(
        "adamw", description="the optimiser; with `adam` the decay is part of the gradient"
    )
    lr: float = Field(1e-3, gt=0, description="highest learning rate")
    weight_decay: float = Field(1e-2, ge=0, description="decay of the flow's weights, not of the mixture")
    schedule: Literal["one_cycle", "cosine", "constant", "steps"] = Field(
        "one_cycle", description="schedule of the rate; `steps` falls to a tenth at 50 % and again at 80 %"
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps over which the rate rises")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; null = no limit")
    ema: float = Field(0.99, ge=0, lt=1, description="decay of the averaged weights; 0 = no averaging")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="numbers in matrix products")
    early_stopping: EarlyStoppingConfig | None = Field(None, description="null = train to the last epoch")
    tf32: bool = Field(
        False, description="round the factors of float32 products to TF32, on GPUs that are faster with it"
    )
    compile: bool | Literal["reduce-overhead", "max-autotune"] = Field(
        False, description="compile the model with torch.compile; `reduce-overhead` records CUDA graphs"
    )
    fsdp: bool = Field(
        False, description="divide weights and the optimiser's state among the processes, for large flows"
    )

    @model_validator(mode="after")
    def _check_compile(self) -> TrainConfig:
        if self.fsdp and self.compile:
            raise ValueError("fsdp and compile exclude each other; leave one of them false")
        return self


class BestConfig(Config):
    """The choice of the best checkpoint."""

    metric: Literal["auto", "val.nll", "val.accuracy", "monitor.loss", "monitor.agreement"] = Field(
        "auto", description="metric to compare; auto = the best that uses no label beyond the labelled rows"
    )


class CheckpointConfig(Config):
    """Times at which the state is saved; the end is always one of them."""

    every_epochs: int | None = Field(None, ge=1, description="save after this many epochs; null = never")
    every_steps: int | None = Field(None, ge=1, description="save after this many steps; null = never")
    every_minutes: float | None = Field(1.0, gt=0, description="save after this many minutes; null = never")
    best: BestConfig = Field(default_factory=BestConfig, description="the choice of the best one")


class CalibrationConfig(Config):
    """Calibration of the predicted probabilities after training."""

    method: Literal["temperature", "none"] = Field("temperature", description="parameter to fit")
    on: Literal["auto", "val", "cross_fit"] = Field(
        "auto", description="rows it is fitted on: labelled held-out rows, or folds of the labelled rows"
    )
    noise: bool = Field(True, description="fit with the temperature a share of labels independent of the row")
    folds: int = Field(4, ge=2, le=10, description="folds of a cross-fit")
    epochs: float = Field(0.3, gt=0, le=1, description="length of a fold's training, a share of train.epochs")


class SearchConfig(Config):
    """A search over candidate settings, compared without a label beyond the labelled rows."""

    candidates: dict[str, dict[str, Any]] = Field(
        default_factory=lambda: STANDARD_CANDIDATES,
        min_length=1,
        description="settings by name; each a mapping of recipe keys, such as flow.couplings, to values",
    )
    challengers: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="further candidates, kept only if they are significantly better than the others",
    )
    keep: int = Field(
        3, ge=1, le=16, description="how many of the best are trained in full and averaged, at most"
    )
    folds: int = Field(4, ge=2, le=10, description="folds of the cross-validation on the labelled rows")
    epochs: float = Field(
        0.5,
        gt=0,
        le=1,
        description="length of a candidate's training in the search, as a share of train.epochs",
    )

    @property
    def all_candidates(self) -> dict[str, dict[str, Any]]:
        """Candidates and challengers."""
        return {**self.candidates, **self.challengers}

    @field_validator("candidates", "challengers")
    @classmethod
    def _check_keys(
        cls, candidates: dict[str, dict[str, Any]], info: ValidationInfo
    ) -> dict[str, dict[str, Any]]:
        for name, changes in candidates.items():
            if name in info.data.get("candidates", {}):
                raise ValueError(f"{name} is the name of a candidate; a challenger needs another name")
            foreign = [key for key in changes if not key.startswith(_SEARCHED)]
            if foreign:
                raise ValueError(
                    f"candidate {name} changes {foreign[0]}; all see the same rows and seed, so only keys "
                    f"below {', '.join(key.rstrip('.') for key in _SEARCHED)} may differ"
                )
        return candidates


def score_names(components: Sequence[Component]) -> tuple[str, ...]:
    """Name the scores of a list: the bare name, and a number after a name that is taken."""
    names: list[str] = []
    for component in components:
        bare = component.use.rpartition("/")[2]
        numbered = (f"{bare}_{number}" for number in range(2, len(components) + 2))
        names.append(next(name for name in (bare, *numbered) if name not in names))
    return tuple(names)


class OodConfig(Config):
    """The detection of rows unlike the training rows."""

    scores: list[Component] = component_field(
        "score",
        [{"use": name} for name in STANDARD_SCORES],
        description="scores that are fitted after training; higher = further out. Scores of images are "
        "skipped for other rows",
    )
    default: str = Field("auto", description="score that flags rows, by name; auto = by the run's own rows")
    fpr: float = Field(0.05, gt=0, lt=1, description="share of held-out rows the stored threshold may flag")

    @model_validator(mode="after")
    def _check_default(self) -> OodConfig:
        if not all(isinstance(score, Component) for score in self.scores):
            return self  # the default in recipe form
        if not self.scores:
            raise ValueError("scores is empty; leave it out for all built-in scores")
        names = ("auto", *score_names(self.scores))
        if self.default not in names:
            raise ValueError(
                f"default is {self.default}, which is not one of the scores"
                f"{did_you_mean(self.default, names)}; known: {', '.join(names)}"
            )
        return self


class RunConfig(Config):
    """Seed, device and folder of the run."""

    seed: int = Field(0, ge=0, lt=2**63, description="fixes everything random in training")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="device of the tensors")
    deterministic: bool = Field(True, description="the same numbers on every run on this device")
    jobs: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="parallel trainings of members and folds on a CPU"
    )
    log_every: int = Field(50, ge=1, description="steps between two lines of metrics.jsonl")
    dir: str = Field("runs", min_length=1, description="folder that holds the runs")
    trackers: list[Literal["tensorboard", "mlflow", "trackio", "wandb"]] = Field(
        default_factory=list, description="programs that also receive settings, metrics, figures and results"
    )


_SEARCHED = ("flow", "prior", "objective", "regularisers", "train.", "data.views.")
_CONSISTENT = {"use": "consistency", "weight": 1.0}
# Initialisation, noise, depth and prior: on small tables each of these is far better on some data.
# They are whole components, since the recipe may have any component in their place.
STANDARD_CANDIDATES: dict[str, dict[str, Any]] = {
    "as_given": {},
    "little_noise": {
        "prior.means": "logistic_regression",
        "data.views.strong": [{"use": "noise", "scale": 0.2}, {"use": "drop", "rate": 0.1}],
    },
    "much_noise": {
        "regularisers": [_CONSISTENT],
        "data.views.strong": [{"use": "noise", "scale": 0.8}, {"use": "drop", "rate": 0.1}],
    },
    "deep": {"flow": {"use": "realnvp", "couplings": 6, "hidden": 128}, "regularisers": [_CONSISTENT]},
    "spread": {"prior.means": "label_spreading", "regularisers": [_CONSISTENT]},
    "estimated_prior": {"prior.class_prior": "estimated"},
}


class RecipeModel(Config):
    """The keys of a recipe file, in the order in which they are written."""

    version: Literal[1] = Field(description="version of the recipe format")
    name: str | None = Field(
        None, description="name of the recipe and of its folder of runs; default: the file's name"
    )
    data: Component = component_field("data", description="where the rows and labels come from")
    flow: Component = component_field("flow", {"use": "realnvp"}, description="the invertible network")
    prior: Component = component_field("prior", {"use": "gmm"}, description="the latent distribution")
    objective: Component = component_field("objective", {"use": "hybrid"}, description="the main loss")
    regularisers: tuple[Component, ...] = component_field(
        "regulariser", [{"use": "consistency"}], description="losses added to the objective"
    )
    train: TrainConfig = Field(default_factory=TrainConfig, description="training of the model")
    checkpoint: CheckpointConfig = Field(
        default_factory=CheckpointConfig, description="times at which the state is saved"
    )
    calibration: CalibrationConfig = Field(
        default_factory=CalibrationConfig, description="calibration of the probabilities"
    )
    ensemble: int = Field(
        1, ge=1, le=64, description="differently started members whose log-densities are averaged"
    )
    search: SearchConfig | None = Field(
        None, description="search over settings before training; null = train the recipe as it is"
    )
    ood: OodConfig = Field(default_factory=OodConfig, description="detection of rows unlike training rows")
    run: RunConfig = Field(default_factory=RunConfig, description="seed, device and folder")
    overlays: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="variants of the recipe by name, for --overlay NAME; each a mapping of recipe keys, such "
        "as train.epochs, to values",
    )

    @field_validator("version", mode="before")
    @classmethod
    def _check_version(cls, version: Any) -> Any:
        if type(version) is not int or version != 1:  # for Python, true and 1.0 are 1 as well
            raise ValueError(f"expected 1, the only version there is, got {describe(version)}")
        return version

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"\w[\w.+-]*", name):
            raise ValueError(
                f'expected letters, digits, `_`, `-`, `.` and `+` only (it names a folder), got "{name}"'
            )
        return name


@dataclass(frozen=True)
class Origin:
    """The origin of a recipe."""

    path: Path | None = None  # the file it was read from
    text: str = ""  # the text of the file
    overlays: tuple[str, ...] = ()  # the overlays that were applied, in this order
    overrides: tuple[str, ...] = ()  # the words of the command line
    notes: tuple[str, ...] = ()  # messages for the user about how the words were applied, one line each
    env: tuple[str, ...] = ()  # names of the environment variables whose values were inserted
    stored: RecipeModel | None = None  # the recipe with references in the place of texts, if it has any
    hidden: Mapping[str, str] = field(default_factory=dict, repr=False)  # the variables' values by reference


class Recipe(RecipeModel):
    """A validated recipe.

    Attributes:
        name: the name of its runs' folder.
        overlays: all overlays that the file has.
        origin: the file, overlays and words it was made from.
    """

    name: str
    origin: Origin = Field(default_factory=Origin, exclude=True)

    def components(self) -> list[Component]:
        """List every component that the recipe names, nested ones (encoder, transforms) included."""
        return _components([self.data, self.flow, self.prior, self.objective, self.regularisers, self.ood])

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, all defaults filled in, sections in a fixed order."""
        return _sections(self)

    def to_stored(self) -> dict[str, Any]:
        """Return `to_dict` for a file: `${env:NAME}` stays where it stands for a text, such as a path.

        Where it stands for a number, a choice or a name, the value is a setting of the run and is written.
        """
        stored = self.origin.stored
        return self.to_dict() if stored is None else {**_sections(stored), "name": self.name}

    def to_yaml(self) -> str:
        """Return `to_stored` as YAML; `load_resolved` reads it back to an equal recipe."""
        return write_yaml(self.to_stored())

    def hide(self, text: str) -> str:
        """Return a text for a file, such as a message, with references in the place of values."""
        for reference, value in self.origin.hidden.items():
            text = text.replace(value, reference)
        return text


def _sections(recipe: RecipeModel) -> dict[str, Any]:
    values = to_plain(recipe)
    return {key: values[key] for key in RecipeModel.model_fields if key != "overlays"}


def _components(value: Any) -> list[Component]:
    """List the components in a value: a component and those below it, or those of a list or model."""
    if isinstance(value, list | tuple):
        return [component for item in value for component in _components(item)]
    if isinstance(value, Component):
        return [value, *_components(value.config)]
    if isinstance(value, Config):
        return _components([getattr(value, name) for name in type(value).model_fields])
    return []

"""The stable interface for plugin authors. Every name in `__all__` is under semantic versioning.

Importing this module never imports torch. An entry point names a *spec*: a light object with the component's
parameters (a pydantic model), a one-line summary, and `build`, the import path of the callable that builds
the component. Listing, describing and validating read specs; only training and inference call `build`.

    # my_flow/plugin.py
    from flowgmm_cli.api import Config, Field, FlowSpec

    class MyFlowConfig(Config):
        layers: int = Field(6, ge=1, le=64, description="number of couplings")

    my_flow = FlowSpec(config=MyFlowConfig, build="my_flow.model:build", summary="My flow")

    # pyproject.toml
    [project.entry-points."flowgmm.flows"]
    my_flow = "my_flow.plugin:my_flow"

`ENTRY_POINT_GROUPS` has the group of each kind. Recipes need no code: an entry point of the group
`flowgmm.recipes` names a package or a folder in it (`my_flow:recipes`). Every `*.yaml` below it becomes the
recipe `distribution/name`; the package is not imported.

Versions. `API_VERSION` counts the changes that require changes in plugins. A spec has the version it was
written for, and flowgmm loads specs of this version and the one before. Within a version names are only
added: new classes, new optional attributes and keywords with a default. Removals are announced in the
changelog, under *Plugin API*, one minor version before. `flowgmm_cli.testing` is part of this interface; all
other modules of flowgmm are private. A package therefore depends on `flowgmm-cli>=0.1,<1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, model_validator

from flowgmm_cli.errors import DataError, FlowgmmError, PluginError, RecipeError, RunFailedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import Tensor

__all__ = [
    "API_VERSION",
    "ENTRY_POINT_GROUPS",
    "Baseline",
    "BaselineSpec",
    "Batch",
    "Column",
    "Component",
    "Config",
    "DataConfig",
    "DataContext",
    "DataError",
    "DataSource",
    "DataSpec",
    "Encoder",
    "EncoderSpec",
    "Field",
    "Flow",
    "FlowSpec",
    "FlowgmmError",
    "LabelsConfig",
    "Latents",
    "Level",
    "Objective",
    "ObjectiveSpec",
    "PluginError",
    "PriorSpec",
    "RecipeError",
    "Regulariser",
    "RegulariserConfig",
    "RegulariserSpec",
    "Rows",
    "RunFailedError",
    "Score",
    "ScoreInputs",
    "ScoreSpec",
    "Seen",
    "SourceData",
    "Spec",
    "SplitConfig",
    "TextView",
    "TextViewConfig",
    "TransformSpec",
    "View",
    "ViewSpec",
    "ViewsConfig",
    "component_field",
]

API_VERSION = 1

ENTRY_POINT_GROUPS = {
    "flowgmm.flows": "flow",
    "flowgmm.data": "data",
    "flowgmm.regularisers": "regulariser",
    "flowgmm.encoders": "encoder",
    "flowgmm.scores": "score",
    "flowgmm.baselines": "baseline",
    "flowgmm.recipes": "recipe",
}
"""Entry-point group -> kind of component."""

Kind = Literal[
    "flow", "data", "regulariser", "encoder", "score", "baseline", "transform", "view", "objective", "prior"
]
Level = Literal["text", "inputs", "features"]


class Config(BaseModel):
    """Base of all parameter models: strict types, unknown keys refused, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, arbitrary_types_allowed=True, allow_inf_nan=False
    )


class Component(BaseModel):
    """A chosen component: in a recipe the mapping `{use: name, ...parameters}`.

    Attributes:
        kind: its kind.
        use: its name in the recipe, bare or `package/name`.
        config: the validated parameters, an instance of the spec's `config`.
    """

    model_config = ConfigDict(frozen=True)

    kind: Kind
    use: str
    config: SerializeAsAny[Config]

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe form `{use: ..., ...}` with all defaults filled in."""
        return {"use": self.use, **to_plain(self.config)}


def to_plain(config: BaseModel) -> dict[str, Any]:
    """Return a config as plain YAML values; nested components take their recipe form."""
    return {name: plain_value(getattr(config, name)) for name in type(config).model_fields}


def plain_value(value: Any) -> Any:
    """Return a value of a config as plain YAML values."""
    if isinstance(value, Component):
        return value.to_dict()
    if isinstance(value, BaseModel):
        return to_plain(value)
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain_value(item) for item in value), key=str)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, PurePath) else value


def component_field(kind: Kind, default: Any = ..., **kwargs: Any) -> Any:
    """Declare a config field that holds another component (or a list of them).

    The recipe gives `{use: name, ...}`; the recipe schema resolves it against the registry before the outer
    model is validated. `default` is written in recipe form: a mapping, a list of mappings, or None.

        encoder: Component = component_field("encoder", {"use": "wordllama"})
        transforms: list[Component] = component_field("transform", [{"use": "standardise"}])
    """
    return Field(default, json_schema_extra={"component": kind}, **kwargs)


# --- specs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Description of a component, the target of an entry point.

    Attributes:
        config: parameter model.
        build: `package.module:callable`, imported only when the component is built.
        summary: one line for `flowgmm plugins list`.
        api: the API version that the plugin was written for.
        docs: a longer text for `flowgmm plugins describe`.
        conformance: `package.module:Class`, the suite of `flowgmm_cli.testing` that `flowgmm plugins test`
            runs; needed only if the suite of the kind does not fit, for instance because of required
            parameters.
    """

    config: type[Config]
    build: str
    summary: str
    api: int = API_VERSION
    docs: str = ""
    conformance: str = ""


@dataclass(frozen=True, kw_only=True)
class FlowSpec(Spec):
    """A flow architecture; `build(config, *, shape, generator) -> Flow`.

    `shape` is the shape of one row, `(D,)` for vectors, `(channels, height, width)` for images; `generator`
    seeds the initial weights.

    Attributes:
        accepts: the rows that it takes, `vector`, `image` or both. A flow of images requires rows that are
            images and transforms that do not mix their pixels; its input are the pixels after the
            transforms, with `dequantise` numbers in [0, 1).
    """

    accepts: frozenset[str] = frozenset({"vector"})


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """A data source; `build(config, context) -> DataSource`; `config` extends `DataConfig`."""


@dataclass(frozen=True, kw_only=True)
class EncoderSpec(Spec):
    """A text encoder; `build(config) -> Encoder`."""


@dataclass(frozen=True, kw_only=True)
class RegulariserSpec(Spec):
    """An additional loss; `build(config) -> Regulariser`; `config` extends `RegulariserConfig`."""


@dataclass(frozen=True, kw_only=True)
class ScoreSpec(Spec):
    """An out-of-distribution score (higher = further out); `build(config) -> Score`.

    Attributes:
        reads: the rows it takes: `rows` for any, `images` for rows of one image column, whose pixels it
            reads.
    """

    reads: Literal["rows", "images"] = "rows"


@dataclass(frozen=True, kw_only=True)
class BaselineSpec(Spec):
    """A simple classifier to compare models with; `build(config, *, classes, seed) -> Baseline`.

    `flowgmm eval --baselines` fits every installed baseline, with the defaults of its parameters. `classes`
    is the number of classes K, `seed` that of everything random.
    """


@dataclass(frozen=True, kw_only=True)
class TransformSpec(Spec):
    """A fitted map of the feature matrix; `build(config, *, features) -> Transform`. Built in only."""


@dataclass(frozen=True, kw_only=True)
class ViewSpec(Spec):
    """A random change of rows that keeps their class. Built in only.

    Attributes:
        level: the values it changes, which determine the form of `build`:
            `text`, the texts of a row before they are encoded: `build(config) -> TextView`, where `config`
            extends `TextViewConfig`;
            `inputs`, images before the transforms: `build(config, *, shape, high) -> View`, for each column
            of images; it takes them as `(N, *shape)`, where `shape` is `(channels, height, width)`, with
            values from 0 (black) to `high` (white; NaN if the column has values below 0);
            `features`, a row after the transforms, `(N, D)`: `build(config) -> View`.
    """

    level: Level = "features"


@dataclass(frozen=True, kw_only=True)
class ObjectiveSpec(Spec):
    """The main loss; `build(config, *, features, labelled, unlabelled, dims) -> Objective`. Built in only."""


@dataclass(frozen=True, kw_only=True)
class PriorSpec(Spec):
    """The latent distribution. Built in only."""


# --- flows ------------------------------------------------------------------------------------------------


@runtime_checkable
class Flow(Protocol):
    """The result of a flow's `build`: an `nn.Module` that maps rows to latents and back.

    Rows are independent of each other, and no state is kept between calls. `log_det` is at least float32,
    also under autocast. A flow with layers initialised from data, such as actnorm, also has a method
    `initialise(x)`; it is called once with training rows `(N, *shape)` before training. A multi-scale flow
    has an attribute `latent_sizes`, the latent dimensions of each scale in their order in z, the coarsest
    first, so that a mixture can be put on some of the scales.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map rows `(N, *shape)` to latents `(N, D)` and the log-determinant `(N,)`."""
        ...

    def inverse(self, z: Tensor) -> Tensor:
        """Map latents `(N, D)` back to rows `(N, *shape)`."""
        ...


# --- data -------------------------------------------------------------------------------------------------


class LabelsConfig(Config):
    """The training rows that keep their label; at most one of count, per_class, fraction, column.

    Without any of them every label in the training data is used. The labels of all other rows are hidden
    from everything but the final test.
    """

    count: int | None = Field(None, ge=1, description="number of labelled rows in all")
    per_class: int | None = Field(None, ge=1, description="number of labelled rows of each class")
    fraction: float | None = Field(
        None, gt=0, le=1, description="share of the training rows that is labelled"
    )
    column: str | None = Field(None, description="column whose true cells mark the labelled rows")
    balanced: bool = Field(True, description="the same number of each class (count, fraction)")
    seed: int = Field(0, ge=0, description="seed of the draw")
    single_class: bool = Field(
        False,
        description="allow a single class: the model then learns the distribution of its rows, to detect "
        "other rows, and classifies nothing",
    )

    @model_validator(mode="after")
    def _check_exclusive(self) -> LabelsConfig:
        names = ("count", "per_class", "fraction", "column")
        present = [name for name in names if getattr(self, name) is not None]
        if len(present) > 1:
            raise ValueError(f"give one of {', '.join(present)}, not {len(present)}")
        return self


class SplitConfig(Config):
    """The division of the rows into splits, if the source has no splits of its own."""

    test: float = Field(0.2, ge=0, lt=1, description="share of the rows for the final test, if none is given")
    val: float = Field(0.05, ge=0, lt=1, description="share of the training rows held out")
    val_labels: bool = Field(
        False,
        description="use the labels of the held-out rows for early stopping and calibration: a validation "
        "split beyond the labelled budget, which every output then states",
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="treatment of training rows that are equal to a test row"
    )
    stratify: bool = Field(True, description="keep class proportions when dividing")
    seed: int = Field(0, ge=0, description="seed of the division")


class ViewsConfig(Config):
    """Random changes of training rows: the teacher sees the weak view, the student the strong one.

    Labelled rows get the weak view, too. A list has changes of texts first, then changes of images, then
    changes of features: the order in which a row passes them.
    """

    weak: list[Component] = component_field(
        "view", [], description="changes before the teacher sees a row, and of the labelled rows"
    )
    strong: list[Component] = component_field(
        "view",
        [{"use": "noise", "scale": 0.5}, {"use": "drop", "rate": 0.2}],
        description="changes before the student sees an unlabelled row",
    )


class DataConfig(Config):
    """Parameters of every data source; a source's own model extends this one."""

    labels: LabelsConfig = Field(
        default_factory=lambda: LabelsConfig(), description="rows that keep their label"
    )
    split: SplitConfig = Field(default_factory=lambda: SplitConfig(), description="train, val and test rows")
    transforms: list[Component] = component_field(
        "transform",
        [{"use": "standardise"}],
        description="maps of the feature matrix, fitted on training rows, first to last",
    )
    views: ViewsConfig = Field(
        default_factory=lambda: ViewsConfig(), description="random changes of training rows"
    )


@dataclass(frozen=True)
class Column:
    """One input column.

    `vector` columns hold arrays of shape `(N, *shape)`; `image` columns uint8 pixels, `(N, height, width)` or
    `(N, height, width, 3)`, where 0 is black and 255 white; `text` and `category` columns hold `str` objects
    with None where a cell is empty; `numeric` columns hold float64 with NaN where a cell is empty, and `date`
    columns float64 seconds since 1970 in UTC, or since midnight. `format` is that of the dates in a file, see
    `flowgmm_cli.data.dates`.
    """

    name: str
    kind: Literal["numeric", "category", "text", "vector", "image", "date"]
    shape: tuple[int, ...] = ()
    format: str = ""


@dataclass(frozen=True)
class Rows:
    """Some rows: input columns by name, labels and ids, all of length N.

    Attributes:
        columns: see `Column` for what each kind holds.
        labels: int64 `(N,)`, an index into the class names, -1 where the row is unlabelled.
        ids: `(N,)`, strings that are unique and stable within the source.
        extras: other columns a recipe may name (`labels.column`, a split column).
    """

    columns: Mapping[str, npt.NDArray[Any]]
    labels: npt.NDArray[np.int64]
    ids: npt.NDArray[Any]
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[Any]) -> Rows:
        """Return the rows at `index` (positions or a boolean mask), in that order."""
        return Rows(
            columns={name: values[index] for name, values in self.columns.items()},
            labels=self.labels[index],
            ids=self.ids[index],
            extras={name: values[index] for name, values in self.extras.items()},
        )


@dataclass(frozen=True)
class SourceData:
    """The data of a source before labels are chosen and rows are divided.

    Attributes:
        columns: the input columns, in order.
        class_names: index -> name.
        splits: `train` always; `val` and `test` if the source has them, with all labels of the data. The
            labels that training may use are chosen later.
        notes: messages for the user (dropped columns, renamed classes), one line each.
    """

    columns: tuple[Column, ...]
    class_names: tuple[str, ...]
    splits: Mapping[str, Rows]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataContext:
    """The environment of a source or encoder.

    Attributes:
        offline: do not use the network.
        cache_dir: a folder for this user's caches.
        progress: `progress(done, total, what)`, called regularly during long work.
        note: `note(text)`, one line for the user.
        streaming: rows come in chunks without end: nothing is cached on disk, and no note counts rows.
    """

    offline: bool = False
    cache_dir: str = ""
    progress: Callable[[int, int, str], None] = lambda done, total, what: None
    note: Callable[[str], None] = lambda text: None
    streaming: bool = False


class DataSource(Protocol):
    """The result of a data source's `build`."""

    def load(self) -> SourceData:
        """Read everything. Raises `DataError` for missing or malformed data."""
        ...


class Encoder(Protocol):
    """The result of an encoder's `build`: texts to vectors, fitted on training rows only."""

    dim: int

    def fit(self, texts: Sequence[str]) -> None:
        """Learn from the training texts; a pretrained encoder does nothing."""
        ...

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return `(N, dim)`; an empty text gives a finite vector."""
        ...

    def cache_key(self) -> str | None:
        """Return a key of everything but the text that determines a vector; None forbids caching."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays) from which `load_state` restores the fitted encoder."""
        ...

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        ...


# --- training ---------------------------------------------------------------------------------------------


class RegulariserConfig(Config):
    """Parameters of every regulariser."""

    weight: float = Field(1.0, ge=0, description="factor on its terms")


class View(Protocol):
    """The result of the `build` of a view of inputs or features."""

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return a changed copy of the rows, of the same shape; random numbers come from `generator` alone.

        `x` is `(N, D)`, or images `(N, channels, height, width)`, on the device of training.
        """
        ...


class TextViewConfig(Config):
    """Parameters of every view of texts."""

    copies: int = Field(
        4, ge=1, le=64, description="changed copies of each text that are encoded before training"
    )


class TextView(Protocol):
    """The result of the `build` of a view of texts."""

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, one for each; random numbers come from `generator` alone."""
        ...


@dataclass(frozen=True)
class Latents:
    """The outputs of the flow and the mixture for some rows.

    Attributes:
        z: latents `(N, D)`.
        log_det: `(N,)`.
        class_log_prob: `log pi_k + log N(z; mu_k, S_k)`, `(N, K)`, without `log_det`.
    """

    z: Tensor
    log_det: Tensor
    class_log_prob: Tensor

    def log_prob(self) -> Tensor:
        """Return `log p(x)` of each row, `(N,)`."""
        return self.class_log_prob.logsumexp(1) + self.log_det

    def rows(self, index: slice) -> Latents:
        """Return the latents of some of the rows."""
        return Latents(self.z[index], self.log_det[index], self.class_log_prob[index])


@dataclass(frozen=True)
class Batch:
    """The rows of a training step, on the device, after the transforms, and the student's latents of them.

    Attributes:
        labelled: labelled rows under the weak view, `(L, D)`; may be empty.
        labels: int64 `(L,)`.
        weak: unlabelled rows under the weak view, `(U, D)`.
        strong: the same rows under the strong view, `(U, D)`.
        student: latents under the model being trained: `labelled` always, `weak` and `strong` if the
            objective or a regulariser declares that it reads them.
        temperature: divisor of class log-probabilities before any softmax in a loss; posteriors of
            high-dimensional mixtures saturate without it.
        step: optimiser steps taken before this one.
        epoch: passes over the unlabelled rows so far, a fraction within a pass.
        generator: random numbers of this step, on the device of the rows.
    """

    labelled: Tensor
    labels: Tensor
    weak: Tensor
    strong: Tensor
    student: Mapping[str, Latents]
    temperature: float
    step: int
    epoch: float
    generator: torch.Generator


class Regulariser(Protocol):
    """The result of a regulariser's `build`: an additional loss.

    Attributes:
        reads: the student's views that it uses, a subset of `{"weak", "strong"}`; all declared views and the
            labelled rows share one forward pass.
    """

    reads: frozenset[str]

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return named scalar losses, unweighted; no gradient may reach the teacher.

        `model(x)` and `teacher(x)` map rows to `Latents`.
        """
        ...


# --- scores -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreInputs:
    """The inputs of an out-of-distribution score: rows and the model's outputs for them, on the CPU.

    Attributes:
        x: the flow's input, float32 `(N, D)`.
        latents: see `Latents`; for an ensemble, `z` is the first member's.
        log_posterior: calibrated `log p(k | x)`, float64 `(N, K)`.
        log_density: `log p(x)` in nats, the transforms' log-determinant included, float64 `(N,)`.
        images: pixels `(N, height, width)` or `(N, height, width, channels)` before the transforms, if the
            rows are images; else None.
    """

    x: Tensor
    latents: Latents
    log_posterior: Tensor
    log_density: Tensor
    images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)


Seen = ScoreInputs
"""The earlier name of `ScoreInputs`, kept for plugins of `API_VERSION` 1."""


class Score(Protocol):
    """The result of a score's `build`: higher = further out. A row's score depends on that row only."""

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Fit the score to in-distribution rows.

        Args:
            train: rows the model was trained on, labelled or not; a sample of them where there are many.
            held_out: rows of the same kind that it was not trained on.
            model: the trained model; `model(x)` maps rows to `Latents`. Only `fit` can use it.
            generator: source of randomness.
        """
        ...

    def __call__(self, rows: ScoreInputs) -> npt.NDArray[np.float64]:
        """Return `(N,)`, higher = further out; every value finite."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return (JSON values, arrays) from which `load_state` restores the fitted score."""
        ...

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore what `state` returned."""
        ...


# --- baselines --------------------------------------------------------------------------------------------


class Baseline(Protocol):
    """The result of a baseline's `build`: a classifier that has the rows and labels of the model.

    Attributes:
        settings: JSON values for reports, such as those that `fit` has chosen; may be empty.
    """

    settings: Mapping[str, Any]

    def fit(
        self,
        x: npt.NDArray[np.float32],
        labels: npt.NDArray[np.int64],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Fit the classifier to the training rows; a later call starts anew.

        Args:
            x: all training rows, labelled or not, `(N, D)`.
            labels: class indices `(N,)`, -1 where a row is unlabelled; a class may have no label.
            settings: the `settings` of an earlier fit to similar rows, to use them again; None = choose them,
                by the labelled rows alone.
        """
        ...

    def predict_proba(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
        """Return the probability of each class `(M, K)` for rows `(M, D)`; the rows sum to 1."""
        ...


# --- objectives -------------------------------------------------------------------------------------------


class Objective(Protocol):
    """The result of an objective's `build`: the main loss, in the same form as a regulariser.

    `build(config, *, features, labelled, unlabelled, dims)` gets D, the numbers of training rows, and the
    number of latent dimensions, out of D, that carry the classes (None = all).

    Attributes:
        reads: as for a regulariser.
        pool: rows the unlabelled batches are drawn from: `all` training rows with labels hidden, or only the
            `unlabelled` ones.
        temperature: see `Batch`.
    """

    reads: frozenset[str]
    pool: Literal["all", "unlabelled"]
    temperature: float

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return named scalar losses whose sum is the objective."""
        ...


def iterate_batches(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover `range(total)`.

    >>> [(s.start, s.stop) for s in iterate_batches(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))

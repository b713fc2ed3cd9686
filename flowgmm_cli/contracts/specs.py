"""Specs, the targets of entry points: light descriptions of components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowgmm_cli.contracts.parameters import Config, Level

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


class DataSpec(Spec):
    """A data source; `build(config, context) -> DataSource`; `config` extends `DataConfig`."""


class EncoderSpec(Spec):
    """A text encoder; `build(config) -> Encoder`."""


class RegulariserSpec(Spec):
    """An additional loss; `build(config) -> Regulariser`; `config` extends `RegulariserConfig`."""


@dataclass(frozen=True, kw_only=True)
class ScoreSpec(Spec):
    """An out-of-distribution score (higher = further out); `build(config) -> Score`.

    Attributes:
        reads: the rows it takes: `rows` for any, `images` for rows of one image column, whose pixels it
            reads, `unknown` for rows of a model that knows of unknown kinds.
    """

    reads: Literal["rows", "images", "unknown"] = "rows"


class BaselineSpec(Spec):
    """A simple classifier to compare models with; `build(config, *, classes, seed) -> Baseline`.

    `flowgmm eval --baselines` fits every installed baseline, with the defaults of its parameters. `classes`
    is the number of classes K, `seed` that of everything random.
    """


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


class ObjectiveSpec(Spec):
    """The main loss; `build(config, *, features, labelled, unlabelled, dims) -> Objective`. Built in only."""


class PriorSpec(Spec):
    """The latent distribution. Built in only."""

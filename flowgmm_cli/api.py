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

from collections.abc import Iterator

from pydantic import Field

from flowgmm_cli.contracts.data import (
    Column,
    DataConfig,
    DataContext,
    DataSource,
    Encoder,
    LabelsConfig,
    Rows,
    SourceData,
    SplitConfig,
    ViewsConfig,
)
from flowgmm_cli.contracts.models import (
    Baseline,
    Batch,
    Flow,
    Latents,
    Objective,
    Regulariser,
    RegulariserConfig,
    Score,
    ScoreInputs,
    Seen,
    TextView,
    TextViewConfig,
    View,
)
from flowgmm_cli.contracts.parameters import Component, Config, Level, component_field
from flowgmm_cli.contracts.parameters import Kind as Kind
from flowgmm_cli.contracts.parameters import plain_value as plain_value
from flowgmm_cli.contracts.parameters import to_plain as to_plain
from flowgmm_cli.contracts.specs import (
    API_VERSION,
    ENTRY_POINT_GROUPS,
    BaselineSpec,
    DataSpec,
    EncoderSpec,
    FlowSpec,
    ObjectiveSpec,
    PriorSpec,
    RegulariserSpec,
    ScoreSpec,
    Spec,
    TransformSpec,
    ViewSpec,
)
from flowgmm_cli.errors import DataError, FlowgmmError, PluginError, RecipeError, RunFailedError

__all__ = [
    "API_VERSION", "ENTRY_POINT_GROUPS", "Baseline", "BaselineSpec", "Batch", "Column", "Component", "Config",
    "DataConfig", "DataContext", "DataError", "DataSource", "DataSpec", "Encoder", "EncoderSpec", "Field",
    "Flow", "FlowSpec", "FlowgmmError", "LabelsConfig", "Latents", "Level", "Objective", "ObjectiveSpec",
    "PluginError", "PriorSpec", "RecipeError", "Regulariser", "RegulariserConfig", "RegulariserSpec", "Rows",
    "RunFailedError", "Score", "ScoreInputs", "ScoreSpec", "Seen", "SourceData", "Spec", "SplitConfig",
    "TextView", "TextViewConfig", "TransformSpec", "View", "ViewSpec", "ViewsConfig", "component_field",
]  # fmt: skip


def iterate_batches(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover `range(total)`.

    >>> [(s.start, s.stop) for s in iterate_batches(5, 2)]
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))

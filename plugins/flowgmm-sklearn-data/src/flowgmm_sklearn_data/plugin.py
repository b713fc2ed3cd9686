"""Parameters and specs; imports neither NumPy nor scikit-learn."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from flowgmm_cli.api import Component, DataConfig, DataSpec, Field, component_field


class TableConfig(DataConfig):
    """Parameters of both sources."""

    bins: int | None = Field(
        None,
        ge=2,
        description="make classes of a target that is a quantity: so many ranges of about equal size",
    )
    unlabelled: str | None = Field(
        None, description="value of the target that marks a row without a label; NaN and null always do"
    )
    drop: list[str] = Field(default_factory=list, description="columns to leave out")
    categorical: list[str] | None = Field(
        None, description="columns of categories, numbers too; by default those that hold no numbers"
    )
    missing: Literal["median", "mean", "error"] = Field(
        "median", description="what replaces an empty or infinite numeric cell"
    )
    encoder: Component = component_field(
        "encoder", {"use": "wordllama"}, description="text to vectors; used where there is text"
    )
    data_home: str | None = Field(
        None, description="scikit-learn's folder of downloads; by default its own, ~/scikit_learn_data"
    )


class SklearnLoaderConfig(TableConfig):
    """Parameters of `sklearn_loader`."""

    loader: str = Field(
        pattern=r"^(load|fetch|make)_[a-z0-9_]+$",
        description="a function of sklearn.datasets: load_wine, fetch_covtype, make_classification, ...",
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="arguments of the function, by name")
    test_arguments: dict[str, Any] | None = Field(
        None,
        description="arguments of a second call that gives the test rows, such as {subset: test}, "
        "in addition to `arguments`",
    )
    seed: int = Field(0, ge=0, lt=2**32, description="`random_state` of a function that has one")


class OpenMLConfig(TableConfig):
    """Parameters of `openml`."""

    id: int | None = Field(None, ge=1, description="number of the data set on openml.org")
    name: str | None = Field(None, min_length=1, description="its name, where no `id` is given")
    version: int | None = Field(
        None, ge=1, description="version of the name; by default the oldest one that is active"
    )
    label: str | None = Field(None, description="column of the class; by default OpenML's target")
    text: str | list[str] | None = Field(
        None, description="column of text, or several that are joined by a line break"
    )
    parser: Literal["liac-arff", "pandas"] = Field(
        "liac-arff",
        description="parser of the download: pandas is much faster, but keeps quotes in texts and, from "
        "3.1 on with scikit-learn up to 1.9, fails on categories that read like numbers",
    )

    @model_validator(mode="after")
    def _check_dataset(self) -> OpenMLConfig:
        if (self.id is None) == (self.name is None):
            raise ValueError("give either `id` or `name`")
        if self.version is not None and self.name is None:
            raise ValueError("`version` goes with `name`; an `id` is of one version")
        return self


SKLEARN_LOADER = DataSpec(
    config=SklearnLoaderConfig,
    build="flowgmm_sklearn_data.loader:build",
    summary="Any load_*, fetch_* or make_* function of sklearn.datasets",
    docs="`arguments` are checked against the function's signature. Classes are named as in the data set. "
    "Downloads of fetch_* stay in scikit-learn's folder, the only place that is read offline.",
    conformance="flowgmm_sklearn_data.conformance:LoaderConformance",
)
OPENML = DataSpec(
    config=OpenMLConfig,
    build="flowgmm_sklearn_data.openml:build",
    summary="A data set of openml.org by number or name",
    docs="Categories and numbers as OpenML has them. Downloads stay in scikit-learn's folder, which is all "
    "that is read when offline.",
    conformance="flowgmm_sklearn_data.conformance:OpenMLConformance",
)

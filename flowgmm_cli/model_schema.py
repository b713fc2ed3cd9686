"""Schema of `model.json`: the types of all values that are read from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from flowgmm_cli.run_info import CalibrationInfo, ComponentInfo, JsonObject, OodInfo, UnknownInfo

Size = Annotated[int, Field(ge=0)]
Range = Annotated[list[float], Field(min_length=2, max_length=2)]


def _require_distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name")
    return names


class _Column(JsonObject):
    name: str
    kind: Literal["numeric", "category", "text", "vector", "image", "date"]
    shape: list[Annotated[int, Field(ge=1)]]
    format: str | None = None


class _ColumnValues(JsonObject):
    """State of the encoder of a column without texts."""

    has_missing: bool = False
    whole: bool = False
    marked: bool = False
    range: Range | None = None
    parts: list[str] | None = None
    origin: float = 0.0
    categories: list[str] | None = None
    size: Annotated[int, Field(ge=1)] = 1


class _ColumnEncoder(JsonObject):
    column: _Column
    values: dict[str, Any]

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.column.kind != "text":  # text encoders may be those of plugins
            _ColumnValues.model_validate(self.values)
        return self


class _FeatureEncoder(JsonObject):
    blocks: Annotated[list[_ColumnEncoder], Field(min_length=1)]
    notes: list[str]


class _Preprocessor(JsonObject):
    featuriser: _FeatureEncoder
    widths: list[Size]


class _Numbers(JsonObject):
    range: Range
    quantiles: Annotated[list[float], Field(min_length=3, max_length=3)]
    missing: float


class _Words(JsonObject):
    known: Annotated[str, Field(pattern=r"^([A-Za-z0-9+/]{16})*([A-Za-z0-9+/]{6}==|[A-Za-z0-9+/]{11}=)?$")]
    low: float
    median: float
    usual: float


class _TrainingRows(JsonObject):
    rows: Size
    numbers: dict[str, _Numbers]
    words: dict[str, _Words]


class _Facts(JsonObject):
    calibration: CalibrationInfo | None = None
    ood: OodInfo | None = None
    unknown: UnknownInfo | None = None
    rows: dict[str, int] | None = None
    inexact_density: list[str] | None = None
    class_prior: list[float] | None = None
    training_rows: _TrainingRows | None = None


class _Member(JsonObject):
    candidate: str | None
    changes: dict[str, Any]


class _Weights(JsonObject):
    sha256: str


class ModelInfo(JsonObject):
    """Keys of `model.json`."""

    format: str
    class_names: Annotated[list[str], Field(min_length=1), AfterValidator(_require_distinct)]
    features: Size
    components: list[ComponentInfo]
    detector: dict[str, Any] | None
    facts: _Facts
    members: Annotated[list[_Member], Field(min_length=1)]
    preprocessor: _Preprocessor
    recipe: dict[str, Any]
    weights: _Weights | None = None  # models of earlier versions have none

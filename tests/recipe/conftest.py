"""A small registry, so that these tests do not change with the built-in components."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from flowgmm_cli.api import (
    Component,
    Config,
    DataConfig,
    DataSpec,
    EncoderSpec,
    Field,
    FlowSpec,
    ObjectiveSpec,
    PriorSpec,
    RegulariserConfig,
    RegulariserSpec,
    ScoreSpec,
    TransformSpec,
    ViewSpec,
    component_field,
)
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import STANDARD_SCORES, Recipe


class StackConfig(Config):
    layers: int = Field(6, ge=1, le=64, description="number of layers")
    hidden: int = Field(512, ge=1)
    mixing: Literal["none", "permutation"] = "none"


class ChainConfig(Config):
    layers: int = Field(2, ge=1)
    bins: tuple[int, ...] = (8,)


class PairConfig(Config):
    low: float = 0.0
    high: float = 1.0

    def model_post_init(self, context: Any) -> None:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")


class TableConfig(DataConfig):
    path: str = Field(description="the file")
    label: str | list[str] | None = None
    skip: list[str] = Field(default_factory=list)
    folder: Path = Path("here")
    encoder: Component | None = component_field("encoder", {"use": "small"})


class EncoderConfig(Config):
    dim: int = Field(64, ge=1)


class PenaltyConfig(RegulariserConfig):
    power: float = 2.0


class NoneConfig(Config):
    pass


class ScaleConfig(Config):
    by: float = 1.0


class NoiseConfig(Config):
    scale: float = 0.5


class DropConfig(Config):
    rate: float = 0.2


BUILTINS = {
    "flow": {
        "realnvp": FlowSpec(config=StackConfig, build="builtins:dict", summary="Stack"),
        "chain": FlowSpec(config=ChainConfig, build="builtins:dict", summary="Chain"),
        "pair": FlowSpec(config=PairConfig, build="builtins:dict", summary="Two limits"),
    },
    "prior": {"gmm": PriorSpec(config=NoneConfig, build="builtins:dict", summary="Mixture")},
    "objective": {"hybrid": ObjectiveSpec(config=NoneConfig, build="builtins:dict", summary="Hybrid")},
    "regulariser": {
        "consistency": RegulariserSpec(config=RegulariserConfig, build="builtins:dict", summary="Views"),
        "penalty": RegulariserSpec(config=PenaltyConfig, build="builtins:dict", summary="Penalty"),
    },
    "data": {
        "table": DataSpec(config=TableConfig, build="builtins:dict", summary="Table"),
        "empty": DataSpec(config=DataConfig, build="builtins:dict", summary="Nothing"),
    },
    "transform": {
        "standardise": TransformSpec(config=NoneConfig, build="builtins:dict", summary="Standardise"),
        "scale": TransformSpec(config=ScaleConfig, build="builtins:dict", summary="Scale"),
    },
    "view": {
        "noise": ViewSpec(config=NoiseConfig, build="builtins:dict", summary="Noise"),
        "drop": ViewSpec(config=DropConfig, build="builtins:dict", summary="Drop"),
        "affine": ViewSpec(config=NoneConfig, build="builtins:dict", summary="Move", level="inputs"),
        "drop_words": ViewSpec(config=NoneConfig, build="builtins:dict", summary="Words", level="text"),
    },
    "encoder": {
        "small": EncoderSpec(config=EncoderConfig, build="builtins:dict", summary="Small"),
        "large": EncoderSpec(config=EncoderConfig, build="builtins:dict", summary="Large"),
    },
    "score": {
        name: ScoreSpec(config=NoneConfig, build="builtins:dict", summary="Score") for name in STANDARD_SCORES
    },
}


@pytest.fixture
def registry() -> Registry:
    return Registry(BUILTINS)


Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path, registry: Registry) -> Load:
    """Write a recipe file and load it: `load(text, *overrides, environ={...})`."""

    def run(text: str, *overrides: str, environ: dict[str, str] | None = None) -> Recipe:
        file = tmp_path / "my.yaml"
        file.write_text(text, encoding="utf-8")
        return load_recipe(str(file), overrides, registry=registry, environ=environ or {})

    return run

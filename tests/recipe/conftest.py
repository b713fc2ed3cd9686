"""A small registry, so that these tests do not change with the built-in components."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from flowgmm_cli.api import Component, Config, DataConfig, Field, RegulariserConfig, component_field
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.entry import SPEC_TYPES
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


class ScaleConfig(Config):
    by: float = 1.0


class NoiseConfig(Config):
    scale: float = 0.5


class DropConfig(Config):
    rate: float = 0.2


CONFIGS: dict[str, dict[str, type[Config]]] = {
    "flow": {"realnvp": StackConfig, "chain": ChainConfig, "pair": PairConfig},
    "prior": {"gmm": Config},
    "objective": {"hybrid": Config},
    "regulariser": {"consistency": RegulariserConfig, "penalty": PenaltyConfig},
    "data": {"table": TableConfig, "empty": DataConfig},
    "transform": {"standardise": Config, "scale": ScaleConfig},
    "view": {"noise": NoiseConfig, "drop": DropConfig, "affine": Config, "drop_words": Config},
    "encoder": {"small": EncoderConfig, "large": EncoderConfig},
    "score": dict.fromkeys(STANDARD_SCORES, Config),
}
LEVELS: dict[str, dict[str, Any]] = {"affine": {"level": "inputs"}, "drop_words": {"level": "text"}}
BUILTINS = {
    kind: {
        name: SPEC_TYPES[kind](config=config, build="builtins:dict", summary=name, **LEVELS.get(name, {}))
        for name, config in configs.items()
    }
    for kind, configs in CONFIGS.items()
}


@pytest.fixture
def registry() -> Registry:
    return Registry(BUILTINS)


Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path, registry: Registry) -> Load:
    """Write a recipe file and load it: `load(text, *overrides, overlays=[...], environ={...})`."""

    def run(
        text: str, *words: str, overlays: Sequence[str] = (), environ: Any = None, read: Any = load_recipe
    ) -> Any:
        file = tmp_path / "my.yaml"
        file.write_text(text, encoding="utf-8")
        return read(str(file), words, overlays=overlays, registry=registry, environ=environ or {})

    return run


@pytest.fixture
def expect(load: Load) -> Callable[..., None]:
    """Load a recipe and compare values by `key.path`: `expect({"train.epochs": 3}, text, *overrides)`."""

    def run(expected: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        values, actual = load(*args, **kwargs).to_dict(), {}
        for key in expected:
            value: Any = values
            for part in key.split("."):
                value = value[int(part)] if isinstance(value, list) else value[part]
            actual[key] = value
        assert actual == expected

    return run


@pytest.fixture
def problems(load: Load) -> Callable[..., list[tuple[str, str, str]]]:
    """Load an invalid recipe; return line (empty for the command line), key and message of every problem."""

    def run(*args: Any, **kwargs: Any) -> list[tuple[str, str, str]]:
        with pytest.raises(RecipeError) as caught:
            load(*args, **kwargs)
        rows = []
        for detail in caught.value.details:
            match = re.fullmatch(r"(?:\S*my\.yaml:(\d*))? *(\S+)  +(.*)", detail)
            assert match, detail
            rows.append((match[1] or "", match[2], match[3]))
        return rows

    return run

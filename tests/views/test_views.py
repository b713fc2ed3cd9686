"""Contract of every view; a new view is a line in the table."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import Component, TextView, TextViewConfig, View
from flowgmm_cli.plugins.registry import build, registry
from flowgmm_cli.views.specs import SPECS

FEATURES: dict[str, dict[str, Any]] = {
    "noise": {"scale": 0.5},
    "drop": {"rate": 0.2},
    "corrupt": {"rate": 0.2},
}
INPUTS: dict[str, dict[str, Any]] = {
    "affine": {"pixels": 1.0, "degrees": 10.0, "zoom": 0.1, "shear": 5.0},
    "flip": {"horizontal": 0.5, "vertical": 0.5},
    "crop": {"pixels": 2},
    "cutout": {"side": 0.3},
    "colour": {},
    "blur": {"sigma": 1.0},
    "elastic": {"pixels": 1.0},
    "rand_augment": {"count": 2},
}
TEXT: dict[str, dict[str, Any]] = {"drop_words": {"rate": 0.3}}
VIEWS = FEATURES | INPUTS
FLAT, IMAGES = [(0, 3), (1, 1), (7, 5)], [(0, 1, 4, 4), (1, 1, 1, 1), (5, 1, 8, 6), (2, 3, 4, 5)]
SHAPES = [(name, shape) for name in FEATURES for shape in FLAT] + [
    (name, shape) for name in INPUTS for shape in IMAGES
]


def make(name: str, *, shape: tuple[int, ...] | None = None) -> Any:
    config = registry().find("view", name).spec().config.model_validate((VIEWS | TEXT)[name])
    component = Component(kind="view", use=name, config=config)
    return build(component, shape=shape, high=255.0) if name in INPUTS else build(component)


def test_every_built_in_view_is_in_the_table_of_its_level() -> None:
    for level, table in (("features", FEATURES), ("inputs", INPUTS), ("text", TEXT)):
        assert set(table) == {name for name, spec in SPECS.items() if spec.level == level}


@pytest.mark.parametrize(("name", "shape"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_stay_and_the_rows_are_not_changed_in_place(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = x.clone()
    view: View = make(name, shape=shape[1:])
    seen = view(x, torch.Generator().manual_seed(1))
    assert (seen.shape, seen.dtype) == (x.shape, dtype)
    assert torch.equal(x, before)
    assert not seen.requires_grad


@pytest.mark.parametrize("name", VIEWS)
def test_random_numbers_come_from_the_given_generator_alone(name: str) -> None:
    shape = (1, 6, 5) if name in INPUTS else (30,)
    view, x = make(name, shape=shape), (torch.arange(900.0) % 256).reshape(30, *shape)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    first, second = view(x, generator), view(x, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, view(x, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", TEXT)
def test_texts_stay_as_many_and_random_numbers_come_from_the_given_generator_alone(name: str) -> None:
    view: TextView = make(name)
    texts = ["one two three four five six", "", "seven", " eight  nine "]
    generator = np.random.default_rng(0)
    first, second = view(texts, generator), view(texts, generator)
    assert len(first) == len(texts)
    assert first != second
    assert first == view(texts, np.random.default_rng(0))


@pytest.mark.parametrize("name", TEXT)
def test_views_of_texts_have_a_number_of_copies(name: str) -> None:
    assert issubclass(SPECS[name].config, TextViewConfig)

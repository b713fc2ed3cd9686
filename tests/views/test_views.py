"""Contract of every view; a new view is a line in a table."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowgmm_cli.api import Component, TextView, TextViewConfig, View
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import build, registry
from flowgmm_cli.views.specs import SPECS, Operation, Padding

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
# those with a strength
SCALED_OPERATIONS = [name for name in get_args(Operation) if name not in ("autocontrast", "equalise")]
FLAT, IMAGES = [(0, 3), (1, 1), (7, 5)], [(0, 1, 4, 4), (1, 1, 1, 1), (5, 1, 8, 6), (2, 3, 4, 5)]
SHAPES = [(name, shape) for name in FEATURES for shape in FLAT] + [
    (name, shape) for name in INPUTS for shape in IMAGES
]


def make(name: str, *, shape: tuple[int, ...] | None = None, high: float = 255.0, **words: Any) -> Any:
    config = registry().find("view", name).spec().config.model_validate(words or (VIEWS | TEXT)[name])
    component = Component(kind="view", use=name, config=config)
    return build(component, shape=shape, high=high) if name in INPUTS else build(component)


def pixels(*shape: int, high: float = 255.0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * high


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


WITHOUT_EFFECT: list[tuple[str, dict[str, Any]]] = [
    ("noise", {"scale": 0}),
    ("drop", {"rate": 0}),
    ("corrupt", {"rate": 0}),
    *(("affine", {"pixels": 0, "padding": padding}) for padding in get_args(Padding)),
    *(("elastic", {"pixels": 0, "padding": padding}) for padding in get_args(Padding)),
    *(("crop", {"pixels": 0, "padding": padding}) for padding in get_args(Padding)),
    ("flip", {"horizontal": 0, "vertical": 0}),
    ("colour", {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0}),
    ("blur", {"sigma": 0}),
    ("rand_augment", {"operations": ["identity"]}),
    ("rand_augment", {"count": 3, "magnitude": 0, "operations": SCALED_OPERATIONS}),
]


@pytest.mark.parametrize(("name", "words"), WITHOUT_EFFECT)
def test_a_strength_of_zero_changes_nothing(name: str, words: dict[str, Any]) -> None:
    x = pixels(40, 3, 9, 7).floor()
    x = x if name in INPUTS else x.flatten(1)
    seen = make(name, shape=x.shape[1:], **words)(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen, x, rtol=0, atol=1e-3)


# --- images -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("shape", [(64,), (8, 8), (32, 32, 3), (2, 3, 4, 5), ()])
def test_columns_without_images_are_a_recipe_error(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="changes images") as caught:
        make(name, shape=shape)
    assert "channels, height, width" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["colour", "rand_augment"])
@pytest.mark.parametrize("high", [0.0, -1.0, float("inf"), float("nan")])
def test_brightness_needs_a_white_above_black(name: str, high: float) -> None:
    with pytest.raises(RecipeError, match="changes brightness"):
        make(name, shape=(1, 4, 4), high=high)


@pytest.mark.parametrize("name", INPUTS)
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(0, 5),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    high=st.sampled_from([1.0, 16.0, 255.0]),
    seed=st.integers(0, 1000),
)
def test_values_stay_between_black_and_white(
    name: str, count: int, channels: int, size: tuple[int, int], high: float, seed: int
) -> None:
    x = pixels(count, channels, *size, high=high)
    x = torch.where(x < high / 2, x, high)  # even patches, too
    seen = make(name, shape=(channels, *size), high=high)(x, torch.Generator().manual_seed(seed))
    assert seen.shape == x.shape
    assert bool(seen.isfinite().all())
    assert bool((seen >= -1e-4 * high).all())
    assert bool((seen <= (1 + 1e-4) * high).all())


@pytest.mark.parametrize("name", INPUTS)
def test_the_change_of_an_image_does_not_depend_on_the_others(name: str) -> None:
    x = pixels(7, 3, 9, 9)
    other = x.clone()
    other[torch.arange(7) != 4] = pixels(1, 3, 9, 9).flip(3) / 3
    view = make(name, shape=(3, 9, 9))
    for seed in range(20):
        seen, beside = (view(rows, torch.Generator().manual_seed(seed)) for rows in (x, other))
        torch.testing.assert_close(seen[4], beside[4])


@pytest.mark.parametrize("name", INPUTS)
def test_images_get_different_changes(name: str) -> None:
    x = pixels(1, 3, 9, 9).expand(200, -1, -1, -1).contiguous()
    seen = make(name, shape=(3, 9, 9))(x, torch.Generator().manual_seed(0))
    assert len(seen.flatten(1).unique(dim=0)) >= {"flip": 4, "crop": 25}.get(name, 41)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_half_the_precision_are_changed_in_the_same_way(name: str, dtype: torch.dtype) -> None:
    x = pixels(9, 3, 8, 8, high=1.0).to(dtype)
    view = make(name, shape=(3, 8, 8), high=1.0)
    seen = view(x, torch.Generator().manual_seed(0))
    assert seen.dtype == dtype
    exact = view(x.float(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.float(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("count", [0, 6])
def test_tensors_without_data_pass_so_that_nothing_waits_for_a_device(name: str, count: int) -> None:
    x = torch.empty(count, 3, 8, 6, device="meta")
    seen = make(name, shape=(3, 8, 6))(x, torch.Generator())
    assert (seen.shape, seen.device, seen.dtype) == (x.shape, x.device, x.dtype)

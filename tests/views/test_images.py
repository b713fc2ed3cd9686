"""Contract of the views of images; a new view is a line in the table of `test_views.py`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowgmm_cli.api import Component, View
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import build, registry
from flowgmm_cli.views.specs import SPECS

IMAGES = [name for name, spec in SPECS.items() if spec.level == "inputs"]
# these need values from 0 to white
BRIGHTNESS_VIEWS = ["colour", "rand_augment"]


def make(name: str, shape: tuple[int, ...], *, high: float = 255.0, **words: Any) -> View:
    config = registry().find("view", name).spec().config.model_validate(words)
    view: View = build(Component(kind="view", use=name, config=config), shape=shape, high=high)
    return view


def pixels(*shape: int, high: float = 255.0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * high


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("shape", [(64,), (8, 8), (32, 32, 3), (2, 3, 4, 5), ()])
def test_columns_without_images_are_a_recipe_error(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="changes images") as caught:
        make(name, shape)
    assert "channels, height, width" in str(caught.value.hint)


@pytest.mark.parametrize("name", BRIGHTNESS_VIEWS)
@pytest.mark.parametrize("high", [0.0, -1.0, float("inf"), float("nan")])
def test_brightness_needs_a_white_above_black(name: str, high: float) -> None:
    with pytest.raises(RecipeError, match="changes brightness"):
        make(name, (1, 4, 4), high=high)


@pytest.mark.parametrize("name", IMAGES)
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
    seen = make(name, (channels, *size), high=high)(x, torch.Generator().manual_seed(seed))
    assert seen.shape == x.shape
    assert bool(seen.isfinite().all())
    assert bool((seen >= -1e-4 * high).all())
    assert bool((seen <= (1 + 1e-4) * high).all())


@pytest.mark.parametrize("name", IMAGES)
def test_the_change_of_an_image_does_not_depend_on_the_others(name: str) -> None:
    x = pixels(7, 3, 9, 9)
    other = x.clone()
    other[torch.arange(7) != 4] = pixels(1, 3, 9, 9).flip(3) / 3
    view = make(name, (3, 9, 9))
    for seed in range(20):
        seen, beside = (view(rows, torch.Generator().manual_seed(seed)) for rows in (x, other))
        torch.testing.assert_close(seen[4], beside[4])


@pytest.mark.parametrize("name", IMAGES)
def test_images_get_different_changes(name: str) -> None:
    x = pixels(1, 3, 9, 9).expand(200, -1, -1, -1).contiguous()
    seen = make(name, (3, 9, 9))(x, torch.Generator().manual_seed(0))
    different = len(seen.flatten(1).unique(dim=0))
    assert different == 2 if name == "flip" else different > 40


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_half_the_precision_are_changed_in_the_same_way(name: str, dtype: torch.dtype) -> None:
    x = pixels(9, 3, 8, 8, high=1.0).to(dtype)
    view = make(name, (3, 8, 8), high=1.0)
    seen = view(x, torch.Generator().manual_seed(0))
    assert seen.dtype == dtype
    exact = view(x.float(), torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.float(), exact, rtol=0, atol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("count", [0, 6])
def test_tensors_without_data_pass_so_that_nothing_waits_for_a_device(name: str, count: int) -> None:
    x = torch.empty(count, 3, 8, 6, device="meta")
    seen = make(name, (3, 8, 6))(x, torch.Generator())
    assert (seen.shape, seen.device, seen.dtype) == (x.shape, x.device, x.dtype)

"""What every view must do; a new view is a line in the table."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.api import Component, View
from flowgmm_cli.plugins.registry import build, registry

VIEWS: dict[str, dict[str, Any]] = {"noise": {"scale": 0.5}, "drop": {"rate": 0.2}, "corrupt": {"rate": 0.2}}


def make(name: str) -> View:
    config = registry().find("view", name).spec().config.model_validate(VIEWS[name])
    view: View = build(Component(kind="view", use=name, config=config))
    return view


def test_every_built_in_view_is_in_the_table() -> None:
    assert {entry.name for entry in registry().entries("view") if entry.builtin} == set(VIEWS)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 5), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_stay_and_the_rows_are_not_changed_in_place(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    before = x.clone()
    seen = make(name)(x, torch.Generator().manual_seed(1))
    assert (seen.shape, seen.dtype) == (x.shape, dtype)
    assert torch.equal(x, before)
    assert not seen.requires_grad


@pytest.mark.parametrize("name", VIEWS)
def test_random_numbers_come_from_the_given_generator_alone(name: str) -> None:
    view, x = make(name), torch.arange(300.0).reshape(50, 6)
    state = torch.get_rng_state()
    generator = torch.Generator().manual_seed(0)
    first, second = view(x, generator), view(x, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, view(x, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), state)

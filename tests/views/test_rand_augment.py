from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views import colour
from flowgmm_cli.views.geometry import inverse_matrix, warp
from flowgmm_cli.views.rand_augment import COLOUR_OPERATIONS, GEOMETRIC_OPERATIONS, RandAugment
from flowgmm_cli.views.specs import Operation, RandAugmentConfig

NAMES = get_args(Operation)
MOVES = sorted(GEOMETRIC_OPERATIONS)


def make(shape: tuple[int, int, int], *, high: float = 1.0, **words: Any) -> RandAugment:
    return RandAugment(RandAugmentConfig.model_validate(words), shape=shape, high=high)


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_every_operation_is_geometric_or_a_change_of_values() -> None:
    assert set(NAMES) == GEOMETRIC_OPERATIONS | set(COLOUR_OPERATIONS) | {"identity"}
    assert not GEOMETRIC_OPERATIONS & set(COLOUR_OPERATIONS)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "identity"])
def test_each_operation_by_itself_changes_images(name: str) -> None:
    x = images(40, 3, 20, 20) * 0.8 + 0.1
    seen = make((3, 20, 20), count=1, magnitude=1.0, operations=[name])(x, torch.Generator().manual_seed(0))
    changed = (seen - x).abs().amax((1, 2, 3)) > 1e-6
    assert float(changed.double().mean()) > 0.8  # levels near 0 may leave an image as it is


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 30])
def test_operations_get_equally_many_images(rows: int) -> None:
    x = torch.full((rows, 1, 4, 4), 0.5, dtype=torch.float64)
    x[:, :, 0] = 0.25
    view = make((1, 4, 4), count=1, magnitude=1.0, operations=["identity", "brightness", "autocontrast"])
    firsts = torch.zeros(3)
    for seed in range(600):
        seen = view(x, torch.Generator().manual_seed(seed)).flatten(1)
        same, stretched = (seen == x.flatten(1)).all(1), (seen.amin(1) == 0) & (seen.amax(1) == 1)
        kinds = torch.stack([same, stretched, ~same & ~stretched])
        assert int(kinds.sum(1).max()) <= -(-rows // 3)
        firsts += kinds[:, 0]
    assert float((firsts / 600 - 1 / 3).abs().max()) < 0.06


def test_the_operations_of_two_rounds_are_independent() -> None:
    x = torch.full((30, 1, 4, 4), 0.25, dtype=torch.float64)
    view = make((1, 4, 4), count=2, magnitude=0.5, operations=["identity", "brightness"])
    same = 0.0
    for seed in range(300):
        same += float((view(x, torch.Generator().manual_seed(seed)) == x).flatten(1).all(1).double().mean())
    assert same / 300 == pytest.approx(0.25, abs=0.02)  # identity twice


@pytest.mark.parametrize(
    ("names", "magnitude", "count"),
    [
        (sorted(GEOMETRIC_OPERATIONS), 0.5, 1),
        (sorted(GEOMETRIC_OPERATIONS), 0.5, 3),
        (["rotate", "shear"], 1.0, 2),
    ],
)
def test_geometric_operations_compose_in_order_with_a_single_interpolation(
    names: list[str], magnitude: float, count: int
) -> None:
    # a blob that is smooth enough to be moved several times without harm
    size = 96
    place = torch.arange(size, dtype=torch.float64) - size / 2 + 0.5
    blob = (-((place - 12) / 7).square() / 2).exp()[:, None] * (-((place + 3) / 5).square() / 2).exp()
    x = blob.expand(12, 1, size, size)
    view = make((1, size, size), count=count, magnitude=magnitude, operations=names)
    seen = view(x, torch.Generator().manual_seed(3))

    generator, step_by_step = torch.Generator().manual_seed(3), x
    for _ in range(count):
        order = torch.empty(12, dtype=x.dtype).uniform_(generator=generator).argsort().reshape(len(names), -1)
        draws = torch.empty(12, 2, dtype=x.dtype).uniform_(-1, 1, generator=generator) * magnitude
        level, other = draws.unbind(1)
        kind = {int(row): name for name, hand in zip(names, order, strict=True) for row in hand}
        moved = []
        for row in range(12):
            first, second, name = float(level[row]), float(other[row]), kind[row]
            matrix = inverse_matrix(
                torch.tensor([math.radians(30 * first) if name == "rotate" else 0.0], dtype=x.dtype),
                torch.tensor([1.4**first if name == "zoom" else 1.0], dtype=x.dtype),
                torch.tensor([0.3 * first if name == "shear" else 0.0], dtype=x.dtype),
            )
            if name == "shear" and second > 0:
                matrix = matrix.mT
            shift = [0.3 * size * first, 0.3 * size * second] if name == "shift" else [0.0, 0.0]
            moved.append(warp(step_by_step[row : row + 1], matrix, torch.tensor([shift], dtype=x.dtype)))
        step_by_step = torch.cat(moved)
    difference = float((seen - step_by_step).abs().max())
    assert difference < (1e-12 if count == 1 else 0.03)
    assert float((seen - x).abs().max()) > 0.3


def test_values_change_in_the_order_of_the_rounds() -> None:
    x = images(1, 1, 6, 6)
    view = make((1, 6, 6), count=2, magnitude=1.0, operations=["contrast", "solarise"])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        expected = x
        for _ in range(2):
            first = int(torch.empty(2, dtype=x.dtype).uniform_(generator=generator).argsort().argsort()[0])
            level = torch.empty(2, 2, dtype=x.dtype).uniform_(-1, 1, generator=generator)[:1, 0]
            if first == 0:
                expected = colour.contrast(expected, 1 + 0.9 * level, high=1.0)
            else:
                expected = colour.solarise(expected, 1 - level.abs(), high=1.0)
        torch.testing.assert_close(view(x, torch.Generator().manual_seed(seed)), expected)


def test_images_without_colours_do_without_saturation() -> None:
    assert "saturation" not in make((1, 6, 6)).operations
    assert "saturation" in make((3, 6, 6)).operations
    with pytest.raises(RecipeError, match="have no colours") as caught:
        make((1, 6, 6), operations=["saturation"])
    assert "operations" in str(caught.value.hint)


@pytest.mark.parametrize("names", [[], ["shift", "shift"], ["flip"]])
def test_an_empty_repeated_or_unknown_operation_is_refused(names: list[str]) -> None:
    with pytest.raises(ValidationError):
        RandAugmentConfig.model_validate({"operations": names})

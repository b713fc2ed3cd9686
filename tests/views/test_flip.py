from __future__ import annotations

import pytest
import torch

from flowgmm_cli.views.flip import Flip
from flowgmm_cli.views.specs import FlipConfig

SHAPE = (3, 4, 5)


def flip(horizontal: float, vertical: float, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(float(count * 60)).reshape(count, *SHAPE)
    view = Flip(FlipConfig(horizontal=horizontal, vertical=vertical), shape=SHAPE, high=1.0)
    return x, view(x, torch.Generator().manual_seed(0))


def test_sides_change_places() -> None:
    x, seen = flip(1, 0)
    assert torch.equal(seen, x.flip(3))
    x, seen = flip(0, 1)
    assert torch.equal(seen, x.flip(2))
    x, seen = flip(1, 1)
    assert torch.equal(seen, torch.rot90(x, 2, (2, 3)))


def test_probabilities_of_zero_change_nothing() -> None:
    x, seen = flip(0, 0)
    assert torch.equal(seen, x)
    assert seen.data_ptr() != x.data_ptr()


def test_both_ways_are_drawn_apart_with_their_probabilities() -> None:
    _, seen = flip(0.3, 0.2, 4000)
    across = (seen[:, 0, 0] - seen[:, 0, 0].roll(1, 1))[:, 1] < 0
    down = (seen[:, 0, 1, 0] - seen[:, 0, 0, 0]) < 0
    assert float(across.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(down.double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((across & down).double().mean()) == pytest.approx(0.06, abs=0.015)

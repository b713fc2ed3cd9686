from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgmm_cli.views.cutout import Cutout
from flowgmm_cli.views.specs import CutoutConfig


def cut(height: int, width: int, rows: int = 3000, **words: object) -> Tensor:
    """Where images are hidden, `(rows, height, width)`."""
    view = Cutout(CutoutConfig.model_validate(words), shape=(1, height, width), high=1.0)
    return view(torch.ones(rows, 1, height, width), torch.Generator().manual_seed(0))[:, 0] == 0


@pytest.mark.parametrize(("height", "width", "side"), [(12, 12, 6), (8, 20, 4), (7, 9, 4)])
def test_a_square_is_whole_or_cut_off_at_an_edge(height: int, width: int, side: int) -> None:
    hidden = cut(height, width)
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])
    for strip in (rows, columns):
        inside = ~(strip[:, 0] | strip[:, -1])
        assert bool((strip.sum(1)[inside] == side).all())
        assert bool((strip.sum(1) >= side // 2).all())
        assert bool((strip.int().diff(dim=1).abs().sum(1) <= 2).all())  # in one piece
    assert int(hidden.sum((1, 2)).max()) == side * side


def test_the_middle_of_a_square_is_any_pixel_alike() -> None:
    hidden = cut(5, 4, 8000, side=0.01)  # one pixel at least
    assert bool((hidden.sum((1, 2)) == 1).all())
    assert float((hidden.double().mean(0) - 1 / 20).abs().max()) < 0.012


def test_more_squares_hide_more_but_no_more_than_their_areas_together() -> None:
    one, three = (cut(16, 16, side=0.25, count=count).sum((1, 2)).double() for count in (1, 3))
    assert float(one.max()) == 16
    assert 40 < float(three.max()) <= 48
    assert 2 * float(one.mean()) < float(three.mean()) < 3 * float(one.mean())


@pytest.mark.parametrize("fill", ["zeros", "mean", "grey"])
def test_what_is_put_there_follows_the_fill_and_the_rest_stays(fill: str) -> None:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
    view = Cutout(CutoutConfig.model_validate({"fill": fill}), shape=(3, 8, 8), high=2.0)
    seen = view(x, torch.Generator().manual_seed(0))
    hidden = (seen != x).any(1, keepdim=True).expand_as(x)
    assert 4 <= int(hidden[0, 0].sum()) <= 16
    values = {"zeros": torch.zeros(()), "mean": x.mean((2, 3), keepdim=True), "grey": torch.ones(())}
    expected = values[fill].to(x.dtype).expand_as(x)
    torch.testing.assert_close(seen[hidden], expected[hidden])
    assert torch.equal(seen[~hidden], x[~hidden])

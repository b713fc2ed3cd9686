from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowgmm_cli.views.degradations import Blur, Cutout, gaussian_blur
from flowgmm_cli.views.specs import BlurConfig, CutoutConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", [(9, 14), (2, 3), (1, 1)])
def test_every_image_is_blurred_by_its_width_as_in_scipy(size: tuple[int, int]) -> None:
    x, radius = images(3, 2, *size), 5
    sigmas = [0.4, 1.0, 2.3]
    seen = gaussian_blur(x, torch.tensor(sigmas, dtype=x.dtype), radius=radius)
    for place, sigma in enumerate(sigmas):
        for channel in range(2):
            expected = ndimage.gaussian_filter(
                x[place, channel].numpy(), sigma, mode="nearest", radius=radius
            )
            torch.testing.assert_close(seen[place, channel], torch.from_numpy(expected))


def test_widths_are_drawn_evenly_up_to_the_largest() -> None:
    x = torch.zeros(4000, 1, 15, 15, dtype=torch.float64)
    x[:, :, 7, 7] = 1
    seen = Blur(BlurConfig(sigma=2.0), shape=(1, 15, 15), high=1.0)(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.sum((1, 2, 3)), torch.ones(4000, dtype=x.dtype))
    place = torch.arange(15, dtype=x.dtype) - 7
    width = (seen[:, 0].sum(1) * place.square()).sum(1).sqrt()
    assert 1.9 < float(width.max()) <= 2.0
    assert float(width.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(width.median()) == pytest.approx(1.0, abs=0.05)


def cut(height: int, width: int, rows: int = 3000, **words: object) -> Tensor:
    """Return masks of the hidden pixels, `(rows, height, width)`."""
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


def test_the_centre_of_a_square_is_uniform_over_the_pixels() -> None:
    hidden = cut(5, 4, 8000, side=0.01)  # one pixel at least
    assert bool((hidden.sum((1, 2)) == 1).all())
    assert float((hidden.double().mean(0) - 1 / 20).abs().max()) < 0.012


def test_more_squares_hide_more_but_no_more_than_their_areas_together() -> None:
    single, three = (cut(16, 16, side=0.25, count=count).sum((1, 2)).double() for count in (1, 3))
    assert float(single.max()) == 16
    assert 40 < float(three.max()) <= 48
    assert 2 * float(single.mean()) < float(three.mean()) < 3 * float(single.mean())


@pytest.mark.parametrize("fill", ["zeros", "mean", "grey"])
def test_the_squares_have_the_fill_and_other_pixels_stay(fill: str) -> None:
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
    view = Cutout(CutoutConfig.model_validate({"fill": fill}), shape=(3, 8, 8), high=2.0)
    seen = view(x, torch.Generator().manual_seed(0))
    hidden = (seen != x).any(1, keepdim=True).expand_as(x)
    assert 4 <= int(hidden[0, 0].sum()) <= 16
    values = {"zeros": torch.zeros(()), "mean": x.mean((2, 3), keepdim=True), "grey": torch.ones(())}
    expected = values[fill].to(x.dtype).expand_as(x)
    torch.testing.assert_close(seen[hidden], expected[hidden])
    assert torch.equal(seen[~hidden], x[~hidden])

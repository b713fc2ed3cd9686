from __future__ import annotations

import colorsys

import pytest
import torch
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.colour import Colour
from flowgmm_cli.views.specs import ColourConfig

NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def changed(x: Tensor, **words: float) -> Tensor:
    view = Colour(ColourConfig(**(NONE | words)), shape=(x.shape[1], x.shape[2], x.shape[3]), high=1.0)
    return view(x, torch.Generator().manual_seed(0))


def images(channels: int, count: int = 2000) -> Tensor:
    """Copies of one image, from 0.3 to 0.5."""
    one = torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.3 + one / 5).expand(count, -1, -1, -1)


def even(values: Tensor, largest: float) -> bool:
    """Whether values lie evenly between -largest and largest."""
    inside = float(values.abs().max()) <= largest + 1e-9
    return (
        inside
        and abs(float(values.mean())) < largest / 10
        and values.std().item() == pytest.approx(largest / 3**0.5, rel=0.05)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_are_drawn_evenly_up_to_the_largest(channels: int) -> None:
    x = images(channels)
    factor = (changed(x, brightness=0.4) / x).flatten(1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert even(factor[:, 0] - 1, 0.4)
    seen = changed(x, contrast=0.4)
    slopes = (seen.flatten(1)[:, 1] - seen.flatten(1)[:, 0]) / (x.flatten(1)[:, 1] - x.flatten(1)[:, 0])
    assert even(slopes - 1, 0.4)


def test_hue_and_saturation_change_by_themselves() -> None:
    x = images(3)
    before = colorsys.rgb_to_hsv(*x[0, :, 1, 2].tolist())
    turned = [colorsys.rgb_to_hsv(*pixel) for pixel in changed(x, hue=0.1)[:, :, 1, 2].tolist()]
    turns = torch.tensor([(hue - before[0] + 0.5) % 1 - 0.5 for hue, _, _ in turned])
    assert even(turns, 0.1)
    assert turned[0][1:] == pytest.approx(before[1:])
    pale = changed(x, saturation=0.5)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype)[:, None, None]
    torch.testing.assert_close((pale * weights).sum(1), (x * weights).sum(1))
    spread = [(some.amax(1) - some.amin(1))[:, 1, 2] for some in (pale, x)]
    assert even(spread[0] / spread[1] - 1, 0.5)


def test_grey_images_have_neither_hue_nor_saturation_to_change() -> None:
    x = images(1, 5)
    assert torch.equal(changed(x, hue=0.5, saturation=1.0), x)


def test_without_any_change_images_stay_as_they_are() -> None:
    torch.testing.assert_close(changed(images(3, 5)), images(3, 5))


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_than_grey_or_three_colours_are_an_error_of_the_recipe(channels: int) -> None:
    with pytest.raises(RecipeError, match=f"got {channels}"):
        Colour(ColourConfig(), shape=(channels, 4, 4), high=1.0)

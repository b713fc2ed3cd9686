from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views import colour
from flowgmm_cli.views.colour import Colour
from flowgmm_cli.views.specs import ColourConfig

FACTORS = (0.0, 0.3, 1.0, 1.7)


def pictures(channels: int, count: int = 4) -> Tensor:
    """Photograph-like images of whole values: smooth, with some noise, not over the whole range."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 5, 4, generator=generator, dtype=torch.float64)
    fine = torch.nn.functional.interpolate(coarse, (20, 17), mode="bilinear")
    noise = torch.rand(fine.shape, generator=generator, dtype=torch.float64)
    return (fine * 150 + noise * 60 + 20).floor()


def to_pillow(x: Tensor) -> Image.Image:
    array = x.to(torch.uint8).permute(1, 2, 0).numpy()
    return Image.fromarray(array if array.shape[2] == 3 else array[:, :, 0])


def from_pillow(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1).double()


def repeat(value: float, x: Tensor) -> Tensor:
    return torch.full((len(x),), value, dtype=x.dtype)


def by_pillow(change: Callable[[Image.Image], Image.Image], x: Tensor) -> Tensor:
    return torch.stack([from_pillow(change(to_pillow(image))) for image in x])


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in ("brightness", "contrast", "sharpness") for channels in (1, 3)]
    + [("saturation", 3)],
)
def test_blends_are_those_of_pillow(name: str, factor: float, channels: int) -> None:
    x = pictures(channels)
    enhancers: dict[str, Any] = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
        "sharpness": ImageEnhance.Sharpness,
    }
    expected = by_pillow(lambda image: enhancers[name](image).enhance(factor), x)
    change: Callable[..., Tensor] = getattr(colour, name)
    torch.testing.assert_close(change(x, repeat(factor, x), high=255.0), expected, rtol=0, atol=1.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterising_is_that_of_pillow_in_any_unit(bits: int, channels: int, dtype: torch.dtype) -> None:
    x = pictures(channels)
    expected = by_pillow(lambda image: ImageOps.posterize(image, bits), x)
    for high in (1.0, 16.0, 255.0):
        result = colour.posterise((x * (high / 255)).to(dtype), repeat(bits, x).to(dtype), high=high)
        torch.testing.assert_close(result.double(), expected * (high / 255), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [0, 100, 256])
def test_solarising_is_that_of_pillow(threshold: int) -> None:
    x = pictures(3)
    expected = by_pillow(lambda image: ImageOps.solarize(image, threshold), x)
    assert torch.equal(colour.solarise(x, repeat(threshold - 0.5, x), high=255.0), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_that_of_pillow(channels: int) -> None:
    x = pictures(channels)
    expected = by_pillow(ImageOps.autocontrast, x)
    torch.testing.assert_close(colour.autocontrast(x, high=255.0), expected, rtol=0, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equalising_is_that_of_pillow_in_any_unit(channels: int, dtype: torch.dtype) -> None:
    x = torch.cat([pictures(channels), torch.where(pictures(channels) > 120, 250.0, 0.0)])
    large = x.repeat(1, 1, 3, 5)
    for images in (x, large):
        expected = by_pillow(ImageOps.equalize, images)
        for high in (1.0, 255.0):
            result = colour.equalise((images * (high / 255)).to(dtype), high=high)
            torch.testing.assert_close(result.double(), expected * (high / 255), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 1 / 3, 0.5])
def test_hues_rotate_as_in_the_standard_library(turn: float) -> None:
    x = pictures(3, 2) / 255
    x[0, :, 0] = 0.4  # grey
    x[0, 1, 1], x[0, 2, 1] = x[0, 0, 1], x[0, 0, 1] / 2  # two largest
    expected = x.clone()
    for image in range(2):
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                hue, *others = colorsys.rgb_to_hsv(*x[image, :, row, column].tolist())
                turned = colorsys.hsv_to_rgb((hue + turn) % 1, *others)
                expected[image, :, row, column] = torch.tensor(turned, dtype=x.dtype)
    torch.testing.assert_close(colour.hue(x, repeat(turn, x)), expected)


@pytest.mark.parametrize("value", [0.0, 7.0, 16.0])
def test_constant_images_have_no_contrast_to_change(value: float) -> None:
    x = torch.full((2, 1, 5, 5), value)
    none, much = torch.zeros(2), torch.full((2,), 1.9)
    for factor in (none, much):
        torch.testing.assert_close(colour.contrast(x, factor, high=16.0), x)
        torch.testing.assert_close(colour.sharpness(x, factor, high=16.0), x)
    assert torch.equal(colour.autocontrast(x, high=16.0), x)
    assert torch.equal(colour.equalise(x, high=16.0), x)


NONE = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def apply_colour(x: Tensor, **words: float) -> Tensor:
    view = Colour(ColourConfig(**(NONE | words)), shape=(x.shape[1], x.shape[2], x.shape[3]), high=1.0)
    return view(x, torch.Generator().manual_seed(0))


def images(channels: int, count: int = 2000) -> Tensor:
    """Copies of one image, from 0.3 to 0.5."""
    image = torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.3 + image / 5).expand(count, -1, -1, -1)


def is_uniform(values: Tensor, largest: float) -> bool:
    """Check that values are uniform between -largest and largest."""
    inside = float(values.abs().max()) <= largest + 1e-9
    return (
        inside
        and abs(float(values.mean())) < largest / 10
        and values.std().item() == pytest.approx(largest / 3**0.5, rel=0.05)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_factors_are_drawn_evenly_up_to_the_largest(channels: int) -> None:
    x = images(channels)
    factor = (apply_colour(x, brightness=0.4) / x).flatten(1)
    torch.testing.assert_close(factor, factor[:, :1].expand_as(factor))
    assert is_uniform(factor[:, 0] - 1, 0.4)
    seen = apply_colour(x, contrast=0.4)
    gains = (seen.flatten(1)[:, 1] - seen.flatten(1)[:, 0]) / (x.flatten(1)[:, 1] - x.flatten(1)[:, 0])
    assert is_uniform(gains - 1, 0.4)


def test_hue_and_saturation_change_by_themselves() -> None:
    x = images(3)
    before = colorsys.rgb_to_hsv(*x[0, :, 1, 2].tolist())
    turned = [colorsys.rgb_to_hsv(*pixel) for pixel in apply_colour(x, hue=0.1)[:, :, 1, 2].tolist()]
    turns = torch.tensor([(hue - before[0] + 0.5) % 1 - 0.5 for hue, _, _ in turned])
    assert is_uniform(turns, 0.1)
    assert turned[0][1:] == pytest.approx(before[1:])
    pale = apply_colour(x, saturation=0.5)
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=x.dtype)[:, None, None]
    torch.testing.assert_close((pale * weights).sum(1), (x * weights).sum(1))
    spread = [(some.amax(1) - some.amin(1))[:, 1, 2] for some in (pale, x)]
    assert is_uniform(spread[0] / spread[1] - 1, 0.5)


def test_grey_images_have_neither_hue_nor_saturation_to_change() -> None:
    x = images(1, 5)
    assert torch.equal(apply_colour(x, hue=0.5, saturation=1.0), x)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_than_grey_or_three_colours_are_an_error_of_the_recipe(channels: int) -> None:
    with pytest.raises(RecipeError, match=f"got {channels}"):
        Colour(ColourConfig(), shape=(channels, 4, 4), high=1.0)

"""The operations against Pillow's, which round to whole values."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from flowgmm_cli.views import colours

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


def every(value: float, x: Tensor) -> Tensor:
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
    change: Callable[..., Tensor] = getattr(colours, name)
    torch.testing.assert_close(change(x, every(factor, x), high=255.0), expected, rtol=0, atol=1.5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_posterising_is_that_of_pillow_in_any_unit(bits: int, channels: int, dtype: torch.dtype) -> None:
    x = pictures(channels)
    expected = by_pillow(lambda image: ImageOps.posterize(image, bits), x)
    for high in (1.0, 16.0, 255.0):
        found = colours.posterise((x * (high / 255)).to(dtype), every(bits, x).to(dtype), high=high)
        torch.testing.assert_close(found.double(), expected * (high / 255), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [0, 100, 256])
def test_solarising_is_that_of_pillow(threshold: int) -> None:
    x = pictures(3)
    expected = by_pillow(lambda image: ImageOps.solarize(image, threshold), x)
    assert torch.equal(colours.solarise(x, every(threshold - 0.5, x), high=255.0), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_autocontrast_is_that_of_pillow(channels: int) -> None:
    x = pictures(channels)
    expected = by_pillow(ImageOps.autocontrast, x)
    torch.testing.assert_close(colours.autocontrast(x, high=255.0), expected, rtol=0, atol=1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equalising_is_that_of_pillow_in_any_unit(channels: int, dtype: torch.dtype) -> None:
    x = torch.cat([pictures(channels), torch.where(pictures(channels) > 120, 250.0, 0.0)])
    large = x.repeat(1, 1, 3, 5)
    for images in (x, large):
        expected = by_pillow(ImageOps.equalize, images)
        for high in (1.0, 255.0):
            found = colours.equalise((images * (high / 255)).to(dtype), high=high)
            torch.testing.assert_close(found.double(), expected * (high / 255), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.0, 1 / 3, 0.5])
def test_hues_turn_as_in_the_standard_library(turn: float) -> None:
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
    torch.testing.assert_close(colours.hue(x, every(turn, x)), expected)


def test_a_third_of_the_circle_makes_green_of_red() -> None:
    red = torch.tensor([200.0, 0, 0]).reshape(1, 3, 1, 1)
    assert colours.hue(red, torch.tensor([1 / 3])).flatten().tolist() == pytest.approx([0, 200, 0], abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0, 16.0])
def test_images_of_one_value_have_no_contrast_to_change(value: float) -> None:
    x = torch.full((2, 1, 5, 5), value)
    none, much = torch.zeros(2), torch.full((2,), 1.9)
    for factor in (none, much):
        torch.testing.assert_close(colours.contrast(x, factor, high=16.0), x)
        torch.testing.assert_close(colours.sharpness(x, factor, high=16.0), x)
    assert torch.equal(colours.autocontrast(x, high=16.0), x)
    assert torch.equal(colours.equalise(x, high=16.0), x)


def test_every_image_has_its_own_factor() -> None:
    x = pictures(3)
    factors = torch.tensor([0.2, 0.9, 1.0, 1.5], dtype=x.dtype)
    for change in (colours.brightness, colours.contrast, colours.saturation, colours.sharpness):
        together = change(x, factors, high=255.0)
        for place in range(4):
            alone = change(x[place : place + 1], factors[place : place + 1], high=255.0)
            torch.testing.assert_close(together[place : place + 1], alone)

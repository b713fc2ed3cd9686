from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flowgmm_cli.views.crop import Crop, shift_pixels
from flowgmm_cli.views.specs import CropConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    move=st.tuples(st.integers(-7, 7), st.integers(-7, 7)),
    padding=st.sampled_from(["zeros", "border", "reflection"]),
)
def test_a_shift_is_a_window_of_the_padded_image(
    size: tuple[int, int], move: tuple[int, int], padding: str
) -> None:
    x, (right, down) = images(1, 2, *size), move
    mode = {"zeros": "constant", "border": "edge", "reflection": "symmetric"}[padding]
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (7, 7), (7, 7)], mode=mode)
    top, left = 7 - down, 7 - right
    expected = padded[:, :, top : top + size[0], left : left + size[1]]
    seen = shift_pixels(x, torch.tensor([right]), torch.tensor([down]), padding=padding)
    assert torch.equal(seen, torch.from_numpy(expected))


def test_a_shift_is_a_roll_with_zeros() -> None:
    x = images(2, 3, 6, 6)
    rolled = x.roll((1, -2), (2, 3))
    rolled[:, :, 0], rolled[..., -2:] = 0, 0
    assert torch.equal(shift_pixels(x, torch.tensor([-2, -2]), torch.tensor([1, 1])), rolled)


def test_every_shift_up_to_the_largest_is_as_likely_and_exact() -> None:
    x = images(1, 1, 7, 7).expand(5000, 1, 7, 7)
    seen = Crop(CropConfig(pixels=2), shape=(1, 7, 7), high=1.0)(x, torch.Generator().manual_seed(0))
    counts = []
    for right in range(-2, 3):
        for down in range(-2, 3):
            one = shift_pixels(x[:1], torch.tensor([right]), torch.tensor([down]))
            counts.append(int((seen == one).flatten(1).all(1).sum()))
    assert sum(counts) == 5000
    assert min(counts) > 140
    assert max(counts) < 260


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_a_crop_of_the_whole_image_is_the_image(padding: str) -> None:
    x = images(3, 3, 5, 8)
    config = CropConfig.model_validate({"pixels": 0, "padding": padding})
    assert torch.equal(Crop(config, shape=(3, 5, 8), high=1.0)(x, torch.Generator()), x)


def test_a_window_is_enlarged_to_full_size_and_lies_within_the_image() -> None:
    # of an image whose values are its coordinates the window can be read off
    height, width = 32, 48
    down, right = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    x = torch.stack([right, down]).double().expand(3000, 2, height, width)
    view = Crop(CropConfig(pixels=0, area=0.25, stretch=1.5), shape=(2, height, width), high=1.0)
    seen = view(x, torch.Generator().manual_seed(0))
    # from pixel to pixel, away from edges, where there is no padding
    across = seen[:, 0, 16, 30] - seen[:, 0, 16, 29]
    along = seen[:, 1, 20, 24] - seen[:, 1, 19, 24]
    left, top = seen[:, 0, 16, 10] - 10.5 * across, seen[:, 1, 10, 24] - 10.5 * along
    assert float(left.min()) > -1e-9
    assert float(top.min()) > -1e-9
    assert float((left + width * across).max()) < width + 1e-9
    assert float((top + height * along).max()) < height + 1e-9
    whole = (across < 1 - 1e-9) & (along < 1 - 1e-9)  # the others would reach over an edge
    area, ratio = (across * along)[whole], (across / along)[whole]
    assert 0.25 - 1e-9 <= float(area.min()) < 0.27
    assert float((across * along).max()) <= 1 + 1e-9
    assert 1.45 < float(ratio.max()) <= 1.5 + 1e-9
    assert 1 / 1.5 - 1e-9 <= float(ratio.min()) < 1 / 1.45
    assert float(left.std()) > 3

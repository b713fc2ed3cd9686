from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.views.geometry import Affine, Crop, Elastic, Flip, inverse_matrix, shift_pixels, warp
from flowgmm_cli.views.specs import AffineConfig, CropConfig, ElasticConfig, FlipConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def apply_warp(
    x: Tensor,
    *,
    right: float = 0.0,
    down: float = 0.0,
    degrees: float = 0.0,
    zoom: float = 1.0,
    shear: float = 0.0,
    padding: str = "zeros",
) -> Tensor:
    """Apply the same change to all images."""

    def every(value: float) -> Tensor:
        return torch.full((len(x),), value, dtype=x.dtype)

    matrix = inverse_matrix(every(math.radians(degrees)), every(zoom), every(shear))
    return warp(x, matrix, torch.stack([every(right), every(down)], dim=1), padding=padding)


def test_a_shift_by_whole_pixels_moves_right_and_down_and_brings_in_zeros() -> None:
    x = images(3, 1, 5, 7)
    expected = torch.zeros_like(x)
    expected[..., 1:, 2:] = x[..., :-1, :-2]
    torch.testing.assert_close(apply_warp(x, right=2, down=1), expected)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (180, 2), (-90, 1)])
def test_a_turn_goes_clockwise_about_the_centre(degrees: float, quarters: int) -> None:
    x = images(2, 1, 6, 6)
    torch.testing.assert_close(apply_warp(x, degrees=degrees), torch.rot90(x, quarters, (2, 3)))


@pytest.mark.parametrize("shape", [(8, 8), (6, 11)])
def test_all_changes_together_are_those_of_scipy(shape: tuple[int, int]) -> None:
    x = images(1, 1, *shape)
    angle, zoom, shear, right, down = math.radians(25), 1.2, 0.3, 1.4, -0.7
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.linalg.inv(turn @ np.array([[1, shear], [0, 1]]) * zoom)[::-1, ::-1]  # (y, x) as in scipy
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + np.array([down, right]))
    expected = ndimage.affine_transform(x[0, 0].numpy(), matrix, offset, order=1, mode="grid-constant")
    result = apply_warp(x, right=right, down=down, degrees=25, zoom=zoom, shear=shear)
    torch.testing.assert_close(result[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize(("padding", "first"), [("zeros", 0.0), ("border", 1.0), ("reflection", 2.0)])
def test_pixels_from_outside_follow_the_padding(padding: str, first: float) -> None:
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    row = apply_warp(x, right=2, padding=padding)[0, 0, 0]
    assert row.tolist() == pytest.approx([first, 0.0 if padding == "zeros" else 1.0, 1.0])


def test_channels_move_together() -> None:
    x, config = images(5, 3, 8, 8), AffineConfig(pixels=2, degrees=30)
    whole = Affine(config, shape=(3, 8, 8), high=1.0)(x, torch.Generator().manual_seed(0))
    alone = Affine(config, shape=(1, 8, 8), high=1.0)
    for channel in range(3):
        seen = alone(x[:, channel : channel + 1], torch.Generator().manual_seed(0))
        torch.testing.assert_close(whole[:, channel : channel + 1], seen)


def test_each_row_moves_by_its_own_draw_up_to_the_largest_change() -> None:
    x = torch.zeros(4000, 1, 9, 9)
    x[:, :, 4, 4] = 1
    view = Affine(AffineConfig(pixels=2.0), shape=(1, 9, 9), high=1.0)
    seen = view(x, torch.Generator().manual_seed(0))[:, 0]
    place = torch.arange(9.0) - 4
    right, down = (seen.sum(1) * place).sum(1), (seen.sum(2) * place).sum(1)
    for shift in (right, down):
        assert float(shift.abs().max()) <= 2.001
        assert float(shift.mean()) == pytest.approx(0, abs=0.1)
        assert float(shift.std()) == pytest.approx(4 / 12**0.5, rel=0.05)  # evenly spread
    assert abs(float(torch.corrcoef(torch.stack([right, down]))[0, 1])) < 0.05


@pytest.mark.parametrize(("size", "knots"), [((12, 9), 4), ((8, 8), 2), ((5, 1), 3)])
def test_pixels_come_from_where_a_cubic_field_points(size: tuple[int, int], knots: int) -> None:
    x = images(3, 2, *size)
    view = Elastic(ElasticConfig(pixels=1.5, knots=knots), shape=(2, *size), high=1.0)
    seen = view(x, torch.Generator().manual_seed(5))
    draws = torch.empty(3, 2, knots, knots, dtype=x.dtype)
    draws.uniform_(-1, 1, generator=torch.Generator().manual_seed(5))
    field = F.interpolate(draws * 1.5, size, mode="bicubic", align_corners=True).numpy()
    rows, columns = np.mgrid[: size[0], : size[1]]
    for place in range(3):
        source = np.stack([rows + field[place, 1], columns + field[place, 0]])
        for channel in range(2):
            expected = ndimage.map_coordinates(
                x[place, channel].numpy(), source, order=1, mode="grid-constant"
            )
            torch.testing.assert_close(seen[place, channel], torch.from_numpy(expected))


def test_displacements_are_smooth_and_go_both_ways() -> None:
    # of an image that grows from left to right by 1 a pixel the displacement is the difference
    ramp = torch.arange(28, dtype=torch.float64).expand(2000, 1, 28, 28)
    view = Elastic(ElasticConfig(pixels=1.5), shape=(1, 28, 28), high=27.0)
    moved = (view(ramp, torch.Generator().manual_seed(0)) - ramp)[:, 0, 4:-4, 4:-4]
    assert float(moved.mean()) == pytest.approx(0, abs=0.02)
    assert 1.5 < float(moved.abs().max()) < 2.5  # a cubic goes a little beyond its knots
    assert float(moved.diff(dim=1).abs().max()) < 0.6
    assert float(moved.diff(dim=2).abs().max()) < 0.6


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


def test_every_shift_up_to_the_largest_is_as_likely_and_exact() -> None:
    x = images(1, 1, 7, 7).expand(5000, 1, 7, 7)
    seen = Crop(CropConfig(pixels=2), shape=(1, 7, 7), high=1.0)(x, torch.Generator().manual_seed(0))
    counts = []
    for right in range(-2, 3):
        for down in range(-2, 3):
            shifted = shift_pixels(x[:1], torch.tensor([right]), torch.tensor([down]))
            counts.append(int((seen == shifted).flatten(1).all(1).sum()))
    assert sum(counts) == 5000
    assert min(counts) > 140
    assert max(counts) < 260


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


def test_both_ways_are_drawn_apart_with_their_probabilities() -> None:
    _, seen = flip(0.3, 0.2, 4000)
    across = (seen[:, 0, 0] - seen[:, 0, 0].roll(1, 1))[:, 1] < 0
    down = (seen[:, 0, 1, 0] - seen[:, 0, 0, 0]) < 0
    assert float(across.double().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(down.double().mean()) == pytest.approx(0.2, abs=0.03)
    assert float((across & down).double().mean()) == pytest.approx(0.06, abs=0.015)

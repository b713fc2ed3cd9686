from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowgmm_cli.views.warp import inverse_map, warp


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def moved(
    x: Tensor,
    *,
    right: float = 0.0,
    down: float = 0.0,
    degrees: float = 0.0,
    zoom: float = 1.0,
    shear: float = 0.0,
    padding: str = "zeros",
) -> Tensor:
    """All images under one and the same change."""

    def every(value: float) -> Tensor:
        return torch.full((len(x),), value, dtype=x.dtype)

    matrix = inverse_map(every(math.radians(degrees)), every(zoom), every(shear))
    return warp(x, matrix, torch.stack([every(right), every(down)], dim=1), padding=padding)


def test_a_shift_by_whole_pixels_moves_right_and_down_and_brings_in_zeros() -> None:
    x = images(3, 1, 5, 7)
    expected = torch.zeros_like(x)
    expected[..., 1:, 2:] = x[..., :-1, :-2]
    torch.testing.assert_close(moved(x, right=2, down=1), expected)


def test_a_shift_by_half_a_pixel_is_the_mean_of_two() -> None:
    x = images(2, 3, 4, 6)
    torch.testing.assert_close(moved(x, right=0.5)[..., 1:], (x[..., 1:] + x[..., :-1]) / 2)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (180, 2), (-90, 1)])
def test_a_turn_goes_clockwise_about_the_centre(degrees: float, quarters: int) -> None:
    x = images(2, 1, 6, 6)
    torch.testing.assert_close(moved(x, degrees=degrees), torch.rot90(x, quarters, (2, 3)))


def test_a_zoom_makes_images_larger_about_the_centre() -> None:
    x = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    x[..., 3:6, 3:6] = 1
    large = moved(x, zoom=3.0)
    assert float(large.sum()) == pytest.approx(81, rel=0.2)
    torch.testing.assert_close(large, large.transpose(2, 3))
    assert float(large[..., 1:8, 1:8].min()) == 1


def test_a_shear_moves_rows_by_their_distance_from_the_middle() -> None:
    x = images(1, 1, 5, 5)
    expected = torch.zeros_like(x)
    for row in range(5):
        by = row - 2  # one pixel to the right for each pixel down
        for column in range(5):
            if 0 <= column - by < 5:
                expected[..., row, column] = x[..., row, column - by]
    torch.testing.assert_close(moved(x, shear=1.0), expected)


@pytest.mark.parametrize("shape", [(8, 8), (6, 11)])
def test_all_changes_together_are_those_of_scipy(shape: tuple[int, int]) -> None:
    x = images(1, 1, *shape)
    angle, zoom, shear, right, down = math.radians(25), 1.2, 0.3, 1.4, -0.7
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.linalg.inv(turn @ np.array([[1, shear], [0, 1]]) * zoom)[::-1, ::-1]  # (y, x) as in scipy
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + np.array([down, right]))
    expected = ndimage.affine_transform(x[0, 0].numpy(), matrix, offset, order=1, mode="grid-constant")
    found = moved(x, right=right, down=down, degrees=25, zoom=zoom, shear=shear)
    torch.testing.assert_close(found[0, 0], torch.from_numpy(expected))


@pytest.mark.parametrize(("padding", "first"), [("zeros", 0.0), ("border", 1.0), ("reflection", 2.0)])
def test_what_moves_in_follows_the_padding(padding: str, first: float) -> None:
    x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
    row = moved(x, right=2, padding=padding)[0, 0, 0]
    assert row.tolist() == pytest.approx([first, 0.0 if padding == "zeros" else 1.0, 1.0])

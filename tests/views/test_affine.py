from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.views.affine import Affine, inverse_map, warp
from flowgmm_cli.views.specs import AffineConfig


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
    x = images(3, 5, 7)
    expected = torch.zeros_like(x)
    expected[:, 1:, 2:] = x[:, :-1, :-2]
    torch.testing.assert_close(moved(x, right=2, down=1), expected)


def test_a_shift_by_half_a_pixel_is_the_mean_of_two() -> None:
    x = images(2, 4, 6)
    torch.testing.assert_close(moved(x, right=0.5)[:, :, 1:], (x[:, :, 1:] + x[:, :, :-1]) / 2)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, -1), (180, 2), (-90, 1)])
def test_a_turn_goes_clockwise_about_the_centre(degrees: float, quarters: int) -> None:
    x = images(2, 6, 6)
    torch.testing.assert_close(moved(x, degrees=degrees), torch.rot90(x, quarters, (1, 2)))


def test_a_zoom_makes_images_larger_about_the_centre() -> None:
    x = torch.zeros(1, 9, 9, dtype=torch.float64)
    x[0, 3:6, 3:6] = 1
    large = moved(x, zoom=3.0)
    assert float(large.sum()) == pytest.approx(81, rel=0.2)
    torch.testing.assert_close(large, large.transpose(1, 2))
    assert float(large[0, 1:8, 1:8].min()) == 1


def test_a_shear_moves_rows_by_their_distance_from_the_middle() -> None:
    x = images(1, 5, 5)
    expected = torch.zeros_like(x)
    for row in range(5):
        by = row - 2  # one pixel to the right for each pixel down
        for column in range(5):
            if 0 <= column - by < 5:
                expected[0, row, column] = x[0, row, column - by]
    torch.testing.assert_close(moved(x, shear=1.0), expected)


@pytest.mark.parametrize("shape", [(8, 8), (6, 11)])
def test_all_changes_together_are_those_of_scipy(shape: tuple[int, int]) -> None:
    x = images(1, *shape)
    angle, zoom, shear, right, down = math.radians(25), 1.2, 0.3, 1.4, -0.7
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = np.linalg.inv(turn @ np.array([[1, shear], [0, 1]]) * zoom)[::-1, ::-1]  # (y, x) as in scipy
    centre = (np.array(shape) - 1) / 2
    offset = centre - matrix @ (centre + np.array([down, right]))
    expected = ndimage.affine_transform(x[0].numpy(), matrix, offset, order=1, mode="grid-constant")
    found = moved(x, right=right, down=down, degrees=25, zoom=zoom, shear=shear)
    torch.testing.assert_close(found[0], torch.from_numpy(expected))


@pytest.mark.parametrize(("padding", "first"), [("zeros", 0.0), ("border", 1.0), ("reflection", 2.0)])
def test_what_moves_in_follows_the_padding(padding: str, first: float) -> None:
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    row = moved(x, right=2, padding=padding)[0, 0]
    assert row.tolist() == pytest.approx([first, 0.0 if padding == "zeros" else 1.0, 1.0])


def test_channels_move_together() -> None:
    x = images(5, 3, 8, 8)
    view = Affine(AffineConfig(pixels=2, degrees=30), shape=(3, 8, 8))
    whole = view(x, torch.Generator().manual_seed(0))
    for channel in range(3):
        alone = Affine(AffineConfig(pixels=2, degrees=30), shape=(8, 8))(
            x[:, channel], torch.Generator().manual_seed(0)
        )
        torch.testing.assert_close(whole[:, channel], alone)


def test_each_row_moves_by_its_own_draw_up_to_the_largest_change() -> None:
    x = torch.zeros(4000, 9, 9)
    x[:, 4, 4] = 1
    seen = Affine(AffineConfig(pixels=2.0), shape=(9, 9))(x, torch.Generator().manual_seed(0))
    place = torch.arange(9.0) - 4
    right, down = (seen.sum(1) * place).sum(1), (seen.sum(2) * place).sum(1)
    for shift in (right, down):
        assert float(shift.abs().max()) <= 2.001
        assert float(shift.mean()) == pytest.approx(0, abs=0.1)
        assert float(shift.std()) == pytest.approx(4 / 12**0.5, rel=0.05)  # evenly spread
    assert abs(float(torch.corrcoef(torch.stack([right, down]))[0, 1])) < 0.05


@pytest.mark.parametrize("words", [{"pixels": 0.0}, {"pixels": 0.0, "padding": "border"}])
def test_without_any_change_images_stay_as_they_are(words: dict[str, float]) -> None:
    x = images(4, 8, 8)
    seen = Affine(AffineConfig.model_validate(words), shape=(8, 8))(x, torch.Generator())
    torch.testing.assert_close(seen, x)


@pytest.mark.parametrize("shape", [(64,), (32, 32, 3), (2, 3, 4, 5), ()])
def test_what_is_no_image_is_an_error_of_the_recipe(shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="changes images") as caught:
        Affine(AffineConfig(), shape=shape)
    assert "channels, height, width" in str(caught.value.hint)

"""Pictures in rows: every pixel where it belongs."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from flowgmm_cli.report.canvas import png
from flowgmm_cli.report.grid import GridRow, channels_last, grid_figure

RNG = np.random.default_rng(0)


def sheet(figure: Figure) -> np.ndarray:
    """The pixels shown."""
    (image,) = figure.axes[0].images
    found = image.get_array()
    assert found is not None
    return np.asarray(found)


def words(figure: Figure) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.canvas.draw()
    return {one.get_text() for one in figure.findobj(Text)}


def test_each_picture_stands_in_its_row_and_column() -> None:
    rows = [GridRow("a", RNG.random((3, 8, 5))), GridRow("b", RNG.random((2, 8, 5)))]
    found = sheet(grid_figure(rows, limits=(0, 1)))
    assert found.shape == (8 + 1 + 8, 5 + 1 + 5 + 1 + 5, 3)
    for y, row in enumerate(rows):
        for x, image in enumerate(row.images):
            part = found[y * 9 : y * 9 + 8, x * 6 : x * 6 + 5]
            np.testing.assert_allclose(part, np.repeat(image[..., None], 3, axis=2))
    assert (found[9:, 12:] == 1).all()  # the shorter row ends in white
    assert (found[8] == 1).all()


def test_values_go_from_black_to_white_between_the_limits() -> None:
    image = np.array([[[-5.0, 0.0], [8.0, 16.0]]])
    found = sheet(grid_figure([GridRow("", image)], limits=(0, 16)))[..., 0]
    np.testing.assert_allclose(found, [[0, 0], [0.5, 1]])
    free = sheet(grid_figure([GridRow("", RNG.normal(size=(4, 30, 30)))]))
    assert (free.min(), free.max()) == (0, 1)


@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (2, 3, 6, 7), (2, 6, 7, 1), (2, 6, 7), (2, 6, 7, 4)])
def test_channels_may_come_first_or_last(shape: tuple[int, ...]) -> None:
    images = RNG.random(shape)
    assert channels_last(images).shape[1:3] == (6, 7)
    found = sheet(grid_figure([GridRow("", images)], limits=(0, 1)))[:6, :7]
    colours = images[0] if images.ndim == 3 else channels_last(images)[0][..., :3]
    expected = np.broadcast_to(colours.reshape(6, 7, -1), (6, 7, 3))
    np.testing.assert_allclose(found, expected)


def test_rows_columns_and_the_whole_are_labelled_as_they_are() -> None:
    rows = [GridRow("$a_1$", np.zeros((2, 4, 4))), GridRow("x" * 60, np.zeros((2, 4, 4)))]
    figure = grid_figure(rows, headings=["0", "1/2"], title="digits", subtitle="samples")
    assert {"$a_1$", "x" * 23 + "…", "0", "1/2", "digits", "samples"} <= words(figure)


@pytest.mark.parametrize("images", [np.zeros((0, 4, 4)), np.full((2, 4, 4), 3.0), np.full((1, 4, 4), np.nan)])
def test_nothing_constants_and_nan_can_be_drawn(images: np.ndarray) -> None:
    assert png(grid_figure([GridRow("a", images)])).startswith(b"\x89PNG")
    assert png(grid_figure([])).startswith(b"\x89PNG")


def test_many_pictures_stay_on_paper_of_a_readable_size() -> None:
    data = png(grid_figure([GridRow(str(k), RNG.random((100, 28, 28))) for k in range(10)]))
    width = int.from_bytes(data[16:20], "big")
    assert 1000 < width < 2500

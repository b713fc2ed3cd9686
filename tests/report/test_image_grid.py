"""Grids of images: every pixel at its position."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from flowgmm_cli.api import Column
from flowgmm_cli.report.figures import ImageRow, column_images, image_grid_figure, png

RNG = np.random.default_rng(0)


def sheet(figure: Figure) -> np.ndarray:
    """The pixels shown."""
    (image,) = figure.axes[0].images
    values = image.get_array()
    assert values is not None
    return np.asarray(values)


def words(figure: Figure) -> set[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        figure.canvas.draw()
    return {text.get_text() for text in figure.findobj(Text)}


def test_each_image_is_in_its_row_and_column() -> None:
    rows = [ImageRow("a", [RNG.random((3, 8, 5))]), ImageRow("b", [RNG.random((2, 8, 5))])]
    canvas = sheet(image_grid_figure(rows, limits=(0, 1)))
    assert canvas.shape == (8 + 1 + 8, 5 + 1 + 5 + 1 + 5, 3)
    for y, row in enumerate(rows):
        for x, image in enumerate(row.blocks[0]):
            part = canvas[y * 9 : y * 9 + 8, x * 6 : x * 6 + 5]
            np.testing.assert_allclose(part, np.repeat(image[..., None], 3, axis=2))
    assert (canvas[9:, 12:] == 1).all()  # the shorter row ends in white
    assert (canvas[8] == 1).all()


def test_values_go_from_black_to_white_between_the_limits() -> None:
    image = np.array([[[-5.0, 0.0], [8.0, 16.0]]])
    canvas = sheet(image_grid_figure([ImageRow("", [image])], limits=(0, 16)))[..., 0]
    np.testing.assert_allclose(canvas, [[0, 0], [0.5, 1]])
    free = sheet(image_grid_figure([ImageRow("", [RNG.normal(size=(4, 30, 30))])]))
    assert (free.min(), free.max()) == (0, 1)


@pytest.mark.parametrize("shape", [(2, 6, 7, 3), (2, 6, 7, 1), (2, 6, 7), (2, 6, 7, 4)])
def test_images_are_grey_or_have_their_channels_last(shape: tuple[int, ...]) -> None:
    images = RNG.random(shape)
    canvas = sheet(image_grid_figure([ImageRow("", [images])], limits=(0, 1)))[:6, :7]
    expected = np.broadcast_to(images[0].reshape(6, 7, -1)[..., :3], (6, 7, 3))
    np.testing.assert_allclose(canvas, expected)


def test_labels_headings_and_title_are_shown_literally() -> None:
    rows = [ImageRow("$a_1$", [np.zeros((2, 4, 4))]), ImageRow("x" * 60, [np.zeros((2, 4, 4))])]
    figure = image_grid_figure(rows, headings=["0", "1/2"], title="digits", subtitle="samples")
    assert {"$a_1$", "x" * 23 + "…", "0", "1/2", "digits", "samples"} <= words(figure)


@pytest.mark.parametrize("images", [np.zeros((0, 4, 4)), np.full((2, 4, 4), 3.0), np.full((1, 4, 4), np.nan)])
def test_empty_constant_and_nan_images_can_be_drawn(images: np.ndarray) -> None:
    assert png(image_grid_figure([ImageRow("a", [images])])).startswith(b"\x89PNG")
    assert png(image_grid_figure([])).startswith(b"\x89PNG")


def test_a_grid_of_many_images_has_a_readable_size() -> None:
    data = png(image_grid_figure([ImageRow(str(k), [RNG.random((100, 28, 28))]) for k in range(10)]))
    width = int.from_bytes(data[16:20], "big")
    assert 1000 < width < 2500


def test_blocks_begin_in_the_same_column_of_all_rows() -> None:
    images = RNG.random((3, 8, 8))
    rows = [ImageRow("a", [images[:1], images[1:]]), ImageRow("b", [images[:2], images[:0]])]
    figure = image_grid_figure(rows, limits=(0, 1), block_headings=["cold", "warm"])
    canvas = sheet(figure)[..., 0]
    corners = [0, 9, 8 + 1 + 8 + 1 + 4, 8 + 1 + 8 + 1 + 4 + 8 + 1]
    assert canvas.shape == (8 + 1 + 8, corners[3] + 8)
    for image, row, column in ((0, 0, 0), (1, 0, 2), (2, 0, 3), (0, 1, 0), (1, 1, 1)):
        part = canvas[9 * row : 9 * row + 8, corners[column] : corners[column] + 8]
        np.testing.assert_allclose(part, images[image])
    assert (canvas[:8, corners[1] : corners[2]] == 1).all()
    assert {"cold", "warm"} <= words(figure)
    named = words(image_grid_figure(rows, block_headings=["cold", "warm"], headings=["p", "q", "r", "s"]))
    assert {"p", "q", "r", "s"} <= named
    assert not {"cold", "warm"} & named


def test_frames_and_notes_are_at_their_images() -> None:
    row = ImageRow("a", [np.zeros((2, 10, 10))], notes=["1.5", "$x$"], framed=[False, True])
    figure = image_grid_figure([row, ImageRow("b", [np.ones((1, 10, 10))])], limits=(0, 1))
    (frame,) = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (10.5, -0.5, 10, 10)
    assert {"1.5", "$x$"} <= words(figure)
    canvas = sheet(figure)[..., 0]
    assert canvas.shape == (10 + 3 + 1 + 10, 21)
    assert (canvas[10:, :] == 1).all()


def test_bytes_always_go_from_0_to_255() -> None:
    image = np.array([[[51, 102], [102, 51]]], dtype=np.uint8)
    canvas = sheet(image_grid_figure([ImageRow("", [image])]))[..., 0]
    np.testing.assert_allclose(canvas, [[0.2, 0.4], [0.4, 0.2]])


@pytest.mark.parametrize(
    ("column", "entry"),
    [
        (Column("a", "image", (6, 7)), (6, 7)),
        (Column("a", "image", (3, 3, 3)), (3, 3, 3)),
        (Column("a", "image", (3, 7, 3)), (3, 7, 3)),
        (Column("a", "vector", (3, 6, 4)), (6, 4, 3)),
        (Column("a", "vector", (6, 7, 3)), (6, 7, 3)),
        (Column("a", "vector", (6, 7)), (6, 7)),
    ],
)
def test_cells_of_a_column_become_images_with_channels_last(column: Column, entry: tuple[int, ...]) -> None:
    cells = RNG.random((2, *column.shape))
    canvas = column_images(column, cells)
    assert canvas.shape == (2, *entry)
    assert canvas.sum() == pytest.approx(cells.sum())

"""Grids of images: rows with labels, notes and frames, and the layouts for generated images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column
from flowgmm_cli.data.images.format import WHITE, image_shape
from flowgmm_cli.report.figures import (
    GREY,
    INK,
    SECOND,
    annotate,
    disable_math,
    new_figure,
    set_title,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Images = npt.NDArray[Any]
Limits = tuple[float, float] | None
Blocks = Sequence[tuple[str, int]]
# shares of the width of an image
_GAP = 0.08  # between two images
_BLOCK_GAP = 0.5  # between two blocks of columns
_NOTE_HEIGHT = 0.3  # of a line of small letters under an image
# inches
_MAX_WIDTH = 9.0
_MAX_IMAGE_WIDTH = 0.8
_MARGIN = 1.0  # for labels; encoding a figure cuts off unused paper


@dataclass(frozen=True)
class ImageRow:
    """A row of images."""

    label: str  # written to the left of the row
    images: Images  # `(n, height, width)`, or with channels last or first
    positions: Sequence[int] = ()  # the column of each image; by default they are side by side
    notes: Sequence[str] = ()  # a few letters under each image
    framed: Sequence[bool] = ()  # True for images with a frame

    @property
    def columns(self) -> Sequence[int]:
        """The column of each image."""
        return self.positions or range(len(self.images))


def image_grid_figure(
    rows: Sequence[ImageRow],
    *,
    limits: Limits = None,
    headings: Sequence[str] = (),
    blocks: Blocks = (),
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw images in rows, which may differ in length.

    Grey images go from black at the lower limit to white at the upper one; colours likewise.

    Args:
        rows: the images.
        limits: values of black and white; by default 0 and 255 for images in uint8, and the 0.5 % and 99.5 %
            quantiles of the values for others.
        headings: a text above each column.
        blocks: groups of columns with a gap between them: heading and number of columns of each. Their
            headings are drawn if there are no `headings`.
        title: above the grid, at the left.
        subtitle: a smaller line under it.
    """
    images = [channels_last(row.images) for row in rows]
    low, high = limits or _value_limits(images)
    size = next((batch.shape[1:3] for batch in images if len(batch)), (1, 1))
    layout = _layout(rows, blocks, size)
    canvas = _compose(rows, images, layout, low, high)
    cell = min(_MAX_IMAGE_WIDTH, _MAX_WIDTH / max(canvas.shape[1] / size[1], 1))
    width, height = cell / size[1] * canvas.shape[1], cell / size[1] * canvas.shape[0]
    # the image keeps its exact size; encoding fits the paper to the image and the text around it
    figure = new_figure(width + 2 * _MARGIN, height + 2 * _MARGIN)
    figure.set_layout_engine("none")
    paper = figure.get_size_inches()
    axes = figure.add_axes((_MARGIN / paper[0], _MARGIN / paper[1], width / paper[0], height / paper[1]))
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    axes.set_frame_on(False)
    labels = [shorten(row.label, 24) for row in rows]
    _disable_math(axes.set_yticks([y + size[0] / 2 - 0.5 for y in layout.y], labels=labels))
    axes.set_xticks([])
    columns = layout.headings(headings, blocks)
    if columns:
        axes.xaxis.tick_top()
        _disable_math(axes.set_xticks([x for x, _ in columns], labels=[text for _, text in columns]))
    axes.tick_params(length=0, labelcolor=INK, labelsize=10, pad=5)
    _draw_marks(axes, rows, layout, points=72 * cell)
    if title:
        set_title(axes, title, subtitle, lift=14 if columns else 0)
    return figure


def column_images(column: Column, cells: npt.NDArray[Any] | None) -> Images:
    """Convert the cells of an image column to images as `image_grid_figure` takes them."""
    images = np.asarray(cells)
    channels_first = column.kind == "vector" and image_shape(column) == column.shape
    return np.moveaxis(images, 1, -1) if channels_first else images


def channels_last(images: Images) -> Images:
    """Convert images to shape `(n, height, width, channels)` with 1, 3 or 4 channels."""
    if images.ndim == 3:
        return images[..., None]
    if images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        return np.moveaxis(images, 1, -1)
    return images


@dataclass(frozen=True)
class _Layout:
    """Positions of the images on the canvas in pixels: corners of rows and columns."""

    size: tuple[int, int]
    y: Sequence[int]
    x: Sequence[int]
    shape: tuple[int, int]

    def headings(self, headings: Sequence[str], blocks: Blocks) -> list[tuple[float, str]]:
        """Return centre and text of each heading."""
        half = self.size[1] / 2 - 0.5
        if headings or not blocks:
            return [(x + half, text) for x, text in zip(self.x, headings, strict=False)]
        ends = np.cumsum([size for _, size in blocks]).tolist()
        return [
            ((self.x[end - size] + self.x[end - 1]) / 2 + half, text)
            for end, (text, size) in zip(ends, blocks, strict=True)
        ]


def _layout(rows: Sequence[ImageRow], blocks: Blocks, size: tuple[int, int]) -> _Layout:
    height, width = size
    gap, block_gap, note = (max(1, round(share * width)) for share in (_GAP, _BLOCK_GAP, _NOTE_HEIGHT))
    *block_starts, block_columns = np.cumsum([0, *(columns for _, columns in blocks)]).tolist()
    columns = max([block_columns, *(column + 1 for row in rows for column in row.columns)])
    x, y = [], []
    right = bottom = -gap
    for column in range(columns):
        x.append(right + gap + (block_gap if column and column in block_starts else 0))
        right = x[-1] + width
    for row in rows:
        y.append(bottom + gap)
        bottom += gap + height + (note if row.notes else 0)
    return _Layout(size, y, x, (max(bottom, 1), max(right, 1)))


def _compose(
    rows: Sequence[ImageRow], images: Sequence[Images], layout: _Layout, low: float, high: float
) -> npt.NDArray[np.float64]:
    """Copy all images to one white canvas, `(H, W, 3)` in [0, 1]."""
    height, width = layout.size
    canvas = np.ones((*layout.shape, 3))
    for row, batch, y in zip(rows, images, layout.y, strict=True):
        for column, image in zip(row.columns, batch, strict=True):
            x = layout.x[column]
            values = np.clip((np.nan_to_num(image.astype(np.float64)) - low) / (high - low), 0, 1)
            canvas[y : y + height, x : x + width] = values[..., :3]  # one grey channel fills all three
    return canvas


def _draw_marks(axes: Axes, rows: Sequence[ImageRow], layout: _Layout, *, points: float) -> None:
    """Draw frames around images and notes under them; an image is `points` wide."""
    from matplotlib.patches import Rectangle

    height, width = layout.size
    style = {"ha": "center", "va": "top", "fontsize": min(7.0, points / 5.5), "color": GREY}
    for row, y in zip(rows, layout.y, strict=True):
        for column, framed in zip(row.columns, row.framed, strict=False):
            if framed:
                corner = layout.x[column] - 0.5, y - 0.5
                frame = Rectangle(corner, width, height, fill=False, edgecolor=SECOND, linewidth=1.6)
                frame.set_clip_on(False)
                axes.add_patch(frame)
        for column, note in zip(row.columns, row.notes, strict=False):
            annotate(axes, note, (layout.x[column] + width / 2 - 0.5, y + height - 0.5), (0, -2), **style)


def _value_limits(images: Sequence[Images]) -> tuple[float, float]:
    if images and all(batch.dtype == np.uint8 for batch in images):
        return 0.0, float(WHITE)
    values = np.concatenate([np.zeros(0), *(batch.ravel() for batch in images)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    return float(low), float(high) if high > low else float(low) + 1.0


def _disable_math(ticks: Any) -> None:
    disable_math(*(label for tick in ticks for label in (tick.label1, tick.label2)))

"""Pictures in rows and columns, such as samples by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column
from flowgmm_cli.data.image_shape import WHITE, image_shape
from flowgmm_cli.report.figures import GREY, INK, SECOND, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Images = npt.NDArray[Any]
_GAP = 0.08  # between two pictures, as a share of a picture's width
_BLOCK = 0.5  # between two blocks of columns, likewise
_NOTE = 0.3  # for a line of small letters under a picture, likewise
_WIDTH = 9.0  # inches, at most
_CELL = 0.8  # inches, at most
_MARGIN = 1.0  # inches, for the words; saving cuts off what is not used


@dataclass(frozen=True)
class ImageRow:
    """A row of pictures.

    Attributes:
        label: what stands to the left of it; may be empty.
        images: `(n, height, width)`, or with channels last or first.
        places: the column of each picture; they stand side by side without.
        notes: a few letters under each picture.
        framed: which pictures have a frame around them.
    """

    label: str
    images: Images
    places: Sequence[int] = ()
    notes: Sequence[str] = ()
    framed: Sequence[bool] = ()

    @property
    def columns(self) -> Sequence[int]:
        """The column of each picture."""
        return self.places or range(len(self.images))


def grid_figure(
    rows: Sequence[ImageRow],
    *,
    limits: tuple[float, float] | None = None,
    headings: Sequence[str] = (),
    blocks: Sequence[tuple[str, int]] = (),
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Pictures in rows; rows may be of different lengths.

    Grey pictures go from black at the lower limit to white at the upper one; colours likewise.

    Args:
        rows: what to show.
        limits: values of black and white; by default 0 and 255 of pictures in uint8, and of others those that
            all but one in a hundred numbers lie between.
        headings: what stands above each column.
        blocks: blocks of columns, which are set apart: what stands above each where there are no headings,
            and how many columns it has.
        title: what stands above all, at the left.
        subtitle: a smaller line under it.
    """
    pictures = [channels_last(row.images) for row in rows]
    columns = max((place + 1 for row in rows for place in row.columns), default=0)
    columns = max(columns, sum(size for _, size in blocks))
    low, high = limits or _limits(pictures)
    size = next((one.shape[1:3] for one in pictures if len(one)), (1, 1))
    layout = _layout(rows, columns, blocks, size)
    sheet = _sheet(rows, pictures, layout, low, high)

    labels = [shorten(row.label, 24) for row in rows]
    width = size[1]
    cell = min(_CELL, _WIDTH / max(sheet.shape[1] / width, 1))
    shown = cell / width * sheet.shape[1], cell / width * sheet.shape[0]
    # The picture has its exact size, whatever is written around it; saving fits the paper to both.
    figure = new_figure(shown[0] + 2 * _MARGIN, shown[1] + 2 * _MARGIN)
    figure.set_layout_engine("none")
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((_MARGIN / wide, _MARGIN / tall, shown[0] / wide, shown[1] / tall))
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.set_frame_on(False)
    middles = [y + size[0] / 2 - 0.5 for y in layout.y]
    plain(*_ticks(axes.set_yticks(middles, labels=labels)))
    axes.set_xticks([])
    above = layout.above(headings, blocks)
    if above:
        axes.xaxis.tick_top()
        plain(*_ticks(axes.set_xticks([x for x, _ in above], labels=[text for _, text in above])))
    axes.tick_params(length=0, labelcolor=INK, labelsize=10, pad=5)
    _mark(axes, rows, layout, points=72 * cell)
    if title:
        lift = 14 if above else 0
        plain(
            axes.annotate(
                title,
                (0, 1),
                (0, lift + (20 if subtitle else 8)),
                xycoords="axes fraction",
                textcoords="offset points",
                fontsize=12,
                fontweight="bold",
                color=INK,
            )
        )
        small = axes.annotate(
            subtitle,
            (0, 1),
            (0, lift + 6),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            color=GREY,
        )
        plain(small)
    return figure


def as_pictures(column: Column, cells: npt.NDArray[Any] | None) -> Images:
    """Entries of a column of images as `grid_figure` takes them: grey, or with channels last."""
    images = np.asarray(cells)
    first = column.kind == "vector" and image_shape(column) == column.shape
    return np.moveaxis(images, 1, -1) if first else images


def channels_last(images: Images) -> Images:
    """Pictures as `(n, height, width, 1, 3 or 4)`."""
    if images.ndim == 3:
        return images[..., None]
    if images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        return np.moveaxis(images, 1, -1)
    return images


@dataclass(frozen=True)
class _Layout:
    """Where pictures stand on the sheet, in their own pixels: corners of rows and columns."""

    size: tuple[int, int]
    y: Sequence[int]
    x: Sequence[int]
    shape: tuple[int, int]

    def above(self, headings: Sequence[str], blocks: Sequence[tuple[str, int]]) -> list[tuple[float, str]]:
        """What stands above the sheet, and where."""
        half = self.size[1] / 2 - 0.5
        if headings or not blocks:
            return [(x + half, text) for x, text in zip(self.x, headings, strict=False)]
        found, start = [], 0
        for text, count in blocks:
            found.append(((self.x[start] + self.x[start + count - 1]) / 2 + half, text))
            start += count
        return found


def _layout(
    rows: Sequence[ImageRow], columns: int, blocks: Sequence[tuple[str, int]], size: tuple[int, int]
) -> _Layout:
    height, width = size
    gap, apart, note = (max(1, round(share * width)) for share in (_GAP, _BLOCK, _NOTE))
    starts = set(np.cumsum([count for _, count in blocks])[:-1].tolist()) if blocks else set()
    x, y = [], []
    end = -gap
    for column in range(columns):
        end += gap + (apart if column in starts else 0)
        x.append(end)
        end += width
    bottom = -gap
    for row in rows:
        y.append(bottom + gap)
        bottom += gap + height + (note if row.notes else 0)
    return _Layout(size, y, x, (max(bottom, 1), max(end, 1)))


def _sheet(
    rows: Sequence[ImageRow], pictures: Sequence[Images], layout: _Layout, low: float, high: float
) -> npt.NDArray[np.float64]:
    """All pictures on one white sheet, `(H, W, 3)` in [0, 1]."""
    height, width = layout.size
    sheet = np.ones((*layout.shape, 3))
    for row, images, y in zip(rows, pictures, layout.y, strict=True):
        for place, image in zip(row.columns, images, strict=True):
            x = layout.x[place]
            shown = np.clip((np.nan_to_num(image.astype(np.float64)) - low) / (high - low), 0, 1)
            sheet[y : y + height, x : x + width] = shown[..., :3]  # one grey channel fills all three
    return sheet


def _mark(axes: Axes, rows: Sequence[ImageRow], layout: _Layout, *, points: float) -> None:
    """Frames around pictures and notes under them; a picture is `points` wide."""
    from matplotlib.patches import Rectangle

    height, width = layout.size
    for row, y in zip(rows, layout.y, strict=True):
        for place, framed in zip(row.columns, row.framed, strict=False):
            if framed:
                corner = layout.x[place] - 0.5, y - 0.5
                patch = Rectangle(corner, width, height, fill=False, edgecolor=SECOND, linewidth=1.6)
                patch.set_clip_on(False)
                axes.add_patch(patch)
        for place, note in zip(row.columns, row.notes, strict=False):
            below = layout.x[place] + width / 2 - 0.5, y + height - 0.5
            text = axes.annotate(
                note,
                below,
                (0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=min(7.0, points / 5.5),
                color=GREY,
            )
            plain(text)


def _limits(pictures: Sequence[Images]) -> tuple[float, float]:
    if pictures and all(one.dtype == np.uint8 for one in pictures):
        return 0.0, float(WHITE)
    values = np.concatenate([one.ravel() for one in pictures] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    return float(low), float(high) if high > low else float(low) + 1.0


def _ticks(ticks: Any) -> list[Any]:
    return [tick.label1 for tick in ticks] + [tick.label2 for tick in ticks]

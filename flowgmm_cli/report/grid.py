"""Pictures in rows and columns, such as samples by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.report.canvas import GREY, INK, new_figure, plain, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = npt.NDArray[np.floating[Any]]
_GAP = 0.08  # between two pictures, as a share of a picture's width
_WIDTH = 9.0  # inches, at most
_CELL = 0.8  # inches, at most
_MARGIN = 1.0  # inches, for the words; saving cuts off what is not used


@dataclass(frozen=True)
class GridRow:
    """A row of pictures.

    Attributes:
        label: what stands to the left of it; may be empty.
        images: `(n, height, width)`, or with channels last or first.
    """

    label: str
    images: Images


def grid_figure(
    rows: Sequence[GridRow],
    *,
    limits: tuple[float, float] | None = None,
    headings: Sequence[str] = (),
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Pictures in rows; rows may be of different lengths.

    Grey pictures go from black at the lower limit to white at the upper one; colours likewise.

    Args:
        rows: what to show.
        limits: values of black and white; by default those that all but one in a hundred numbers lie between.
        headings: what stands above each column.
        title: what stands above all, at the left.
        subtitle: a smaller line under it.
    """
    pictures = [channels_last(row.images) for row in rows]
    columns = max((len(one) for one in pictures), default=0)
    low, high = limits or _limits(pictures)
    height, width = next((one.shape[1:3] for one in pictures if len(one)), (1, 1))
    sheet = _sheet(pictures, columns, (height, width), low, high)

    labels = [shorten(row.label, 24) for row in rows]
    cell = min(_CELL, _WIDTH / max(columns, 1))
    shown = cell / width * sheet.shape[1], cell / width * sheet.shape[0]
    # The picture has its exact size, whatever is written around it; saving fits the paper to both.
    figure = new_figure(shown[0] + 2 * _MARGIN, shown[1] + 2 * _MARGIN)
    figure.set_layout_engine("none")
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((_MARGIN / wide, _MARGIN / tall, shown[0] / wide, shown[1] / tall))
    axes.imshow(sheet, interpolation="nearest", aspect="equal")
    axes.set_frame_on(False)
    step_y, step_x = _steps(height, width)
    middles = [index * step_y + height / 2 - 0.5 for index in range(len(rows))]
    plain(*_ticks(axes.set_yticks(middles, labels=labels)))
    axes.set_xticks([])
    if headings:
        middles = [index * step_x + width / 2 - 0.5 for index in range(len(headings))]
        axes.xaxis.tick_top()
        plain(*_ticks(axes.set_xticks(middles, labels=list(headings))))
    axes.tick_params(length=0, labelcolor=INK, labelsize=10, pad=5)
    if title:
        lift = 14 if headings else 0
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


def channels_last(images: Images) -> Images:
    """Pictures as `(n, height, width, 1, 3 or 4)`."""
    if images.ndim == 3:
        return images[..., None]
    if images.shape[-1] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        return np.moveaxis(images, 1, -1)
    return images


def _sheet(
    pictures: Sequence[Images], columns: int, size: tuple[int, int], low: float, high: float
) -> npt.NDArray[np.float64]:
    """All pictures on one white sheet, `(H, W, 3)` in [0, 1]."""
    (height, width), (step_y, step_x) = size, _steps(*size)
    shape = (max(len(pictures) * step_y - (step_y - height), 1), max(columns * step_x - (step_x - width), 1))
    sheet = np.ones((*shape, 3))
    for row, images in enumerate(pictures):
        for column, image in enumerate(images):
            y, x = row * step_y, column * step_x
            shown = np.clip((np.nan_to_num(image.astype(np.float64)) - low) / (high - low), 0, 1)
            sheet[y : y + height, x : x + width] = shown[..., :3]  # one grey channel fills all three
    return sheet


def _steps(height: int, width: int) -> tuple[int, int]:
    """From the corner of a picture to that of the next one, down and to the right."""
    gap = max(1, round(_GAP * width))
    return height + gap, width + gap


def _limits(pictures: Sequence[Images]) -> tuple[float, float]:
    values = np.concatenate([one.ravel() for one in pictures] or [np.zeros(0)])
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.quantile(values, [0.005, 0.995])
    return float(low), float(high) if high > low else float(low) + 1.0


def _ticks(ticks: Any) -> list[Any]:
    return [tick.label1 for tick in ticks] + [tick.label2 for tick in ticks]

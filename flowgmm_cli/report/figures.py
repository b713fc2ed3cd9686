"""The style that all figures share, their encoding as PNG and SVG, and grids of images.

Only matplotlib's object interface is used, with the Agg canvas: no display, and no settings that outlast the
drawing of a figure.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column
from flowgmm_cli.data.images.format import WHITE, image_shape
from flowgmm_cli.messages import escape_controls
from flowgmm_cli.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK = "#1f2933"
GREY = "#6b7785"
FAINT = "#d9dee4"
PALE = "#b8c0c9"
ACCENT = "#0b6fb8"
SECOND = "#d1495b"

# Okabe and Ito (2008) and Tol's muted colours, ordered so that neighbours differ for colour-blind eyes too
_CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#882255", "#56b4e9",
    "#d55e00", "#999933", "#332288", "#7f7f7f", "#ddcc77", "#44aa99",
)  # fmt: skip
LINE_COLOURS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f", "#56b4e9", "#882255", "#44aa99")

_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "contour.negative_linestyle": "solid",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.dashed_pattern": (4, 3),
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "flowgmm",
    "text.color": INK,
    "text.parse_math": False,  # a `$` in the name of a class does not begin a formula
    **{
        f"{axis}tick.{key}": value
        for axis in "xy"
        for key, value in {"color": GREY, "labelcolor": INK, "labelsize": 9, "major.size": 3}.items()
    },
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw with thin grey axes on two sides and literal text; also a decorator of functions that draw."""
    from matplotlib import rc_context

    with rc_context(_STYLE):
        yield


def new_axes(width: float, height: float, title: str, subtitle: str = "") -> tuple[Figure, Axes]:
    """Create a figure of a size in inches with one pair of axes and their title."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    set_title(axes, title, subtitle)
    return figure, axes


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of a size in inches, with a layout that reserves space for labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Encode a figure as PNG of 150 dpi."""
    return _encode(figure, format="png", dpi=150, pad_inches=0.18)


def svg(figure: Figure) -> bytes:
    """Encode a figure as SVG on white paper, with text as text and scatter plots as images of 130 dpi."""
    data = _encode(figure, format="svg", dpi=130, pad_inches=0.08, metadata={"Date": None})
    return escape_controls(data.decode(), keep="\n\t").encode()  # XML has no control characters


def _encode(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    with figure_style(), warnings.catch_warnings(action="ignore"):
        figure.savefig(file, bbox_inches="tight", **options)
    return file.getvalue()


def class_colours(count: int) -> list[str]:
    """Return a colour for each of `count` classes; many classes get shades of a colour wheel."""
    if count <= len(_CLASS_COLOURS):
        return list(_CLASS_COLOURS[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    wheel = colormaps["turbo"]
    return [to_hex(wheel(0.04 + 0.92 * index / (count - 1))) for index in range(count)]


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """Return a colour for each method, the accent for `flowgmm`."""
    baselines = [name for name in methods if name != "flowgmm"]
    colours = {name: LINE_COLOURS[index % len(LINE_COLOURS)] for index, name in enumerate(baselines)}
    return {"flowgmm": ACCENT, **colours}


def set_title(axes: Axes, title: str, subtitle: str = "", *, lift: float = 0) -> None:
    """Write a title at the left, and a smaller grey line under it, `lift` points above the axes."""
    axes.set_title(title, loc="left", y=1.0, pad=lift + (26 if subtitle else 10))
    if subtitle:
        style = {"xycoords": "axes fraction", "fontsize": 9, "color": GREY}
        text = annotate(axes, subtitle, (0, 1), (0, lift + 8), **style)
        text.set_in_layout(False)  # a long line must not squeeze the axes


def annotate(
    axes: Axes, text: str, point: tuple[Any, Any], offset: tuple[float, float], **style: Any
) -> Annotation:
    """Write text `offset` points away from a point of the data, or of other `xycoords`."""
    return axes.annotate(text, point, offset, textcoords="offset points", **{"fontsize": 8.5, **style})


def label_points(
    axes: Axes, points: npt.NDArray[Any], names: Sequence[str], colours: Sequence[str], dots: npt.NDArray[Any]
) -> None:
    """Write a name near each point `(K, 2)`, over no other name or point, and over few dots `(N, 2)`.

    A name that is further away has a line to its point. The limits of the axes must be final.
    """
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("the axes belong to no figure")
    with warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
        figure.draw_without_rendering()
    frame, unit = axes.get_window_extent(), figure.dpi / 72
    anchors, pixels = axes.transData.transform(points), axes.transData.transform(dots)
    taken = [Bbox([anchor - 6 * unit, anchor + 6 * unit]) for anchor in anchors]
    angles = np.pi / 2 + 2 * np.pi * np.arange(16) / 16
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    for point, anchor, name, colour in zip(points, anchors, names, colours, strict=True):
        style = {"ha": "center", "va": "center", "fontsize": 9.5, "fontweight": "bold", "zorder": 6}
        line = {"arrowstyle": "-", "color": colour, "linewidth": 0.9, "shrinkA": 1, "shrinkB": 4}
        text = annotate(axes, shorten(name, 30), tuple(point), (0, 0), color=colour, arrowprops=line, **style)
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])
        with warnings.catch_warnings(action="ignore"):
            half = np.array(text.get_window_extent().size) / 2
        best = np.inf, 0.0, anchor
        for distance in (4.0, 14.0, 28.0, 45.0, 70.0, 100.0, 140.0):
            if best[0] <= distance:  # a place further away costs more
                break
            for centre in anchor + directions * (distance * unit + half):
                box = Bbox([centre - half, centre + half])
                collisions = box.count_overlaps(taken) + (not all(map(frame.contains, *box.get_points().T)))
                cost = distance + 1000 * collisions + 4 * box.count_contains(pixels)
                best = min(best, (cost, distance, centre), key=lambda place: place[0])
        _, distance, centre = best
        taken.append(Bbox([centre - half, centre + half]))
        text.set_position(tuple((centre - anchor) / unit))
        if text.arrow_patch:
            text.arrow_patch.set_visible(distance > 14)


Images = npt.NDArray[Any]
Limits = tuple[float, float] | None
# shares of the width of an image
_GAP = 0.08  # between two images
_BLOCK_GAP = 0.5  # between two blocks
_NOTE_HEIGHT = 0.3  # of a line of small letters under an image
# inches
_MAX_WIDTH = 9.0
_MAX_IMAGE_WIDTH = 0.8
_LETTER = 0.09  # width of a letter of a heading
_MARGIN = 1.0  # for labels; encoding a figure cuts off unused paper


@dataclass(frozen=True)
class ImageRow:
    """A row of images."""

    label: str  # written to the left of the row
    # images `(n, height, width)`, or with channels last; block i begins in the same column in all rows
    blocks: Sequence[Images]
    notes: Sequence[str] = ()  # a few letters under each image, on one line or more
    framed: Sequence[bool] = ()  # True for images with a frame


@figure_style()
def image_grid_figure(
    rows: Sequence[ImageRow],
    *,
    limits: Limits = None,
    headings: Sequence[str] = (),
    block_headings: Sequence[str] = (),
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
        block_headings: a text above each block, if there are no `headings`.
        title: above the grid, at the left.
        subtitle: a smaller line under it.
    """
    from matplotlib.patches import Rectangle

    images = [block for row in rows for block in row.blocks]
    low, high = limits or _value_limits(images)
    h, w = next((block.shape[1:3] for block in images if len(block)), (1, 1))
    x, y, canvas = _layout(rows, h, w)
    cell = min(_MAX_IMAGE_WIDTH, _MAX_WIDTH * w / canvas.shape[1])
    height, width = (cell / w * size for size in canvas.shape[:2])
    # the image keeps its exact size; encoding fits the paper to the image and the text around it
    figure = new_figure(width + 2 * _MARGIN, height + 2 * _MARGIN)
    figure.set_layout_engine("none")
    paper = figure.get_size_inches()
    axes = figure.add_axes((_MARGIN / paper[0], _MARGIN / paper[1], width / paper[0], height / paper[1]))
    style = {"ha": "center", "va": "top", "fontsize": min(7.0, 72 * cell / 5.5), "color": GREY}
    for row, top in zip(rows, y, strict=False):
        places = chain(*(edges[: len(block)] for edges, block in zip(x, row.blocks, strict=False)))
        for left, image, note, framed in zip_longest(places, chain(*row.blocks), row.notes, row.framed):
            values = np.clip((np.nan_to_num(image.astype(np.float64)) - low) / (high - low), 0, 1)
            # one grey channel fills all three
            canvas[top : top + h, left : left + w] = values.reshape(h, w, -1)[..., :3]
            if framed:
                frame = Rectangle((left - 0.5, top - 0.5), w, h, fill=False, edgecolor=SECOND, linewidth=1.6)
                axes.add_patch(frame).set_clip_on(False)
            if note:
                annotate(axes, note, (left + w / 2 - 0.5, top + h - 0.5), (0, -2), **style)
    axes.imshow(canvas, interpolation="nearest", aspect="equal")
    axes.set_frame_on(False)
    axes.set_yticks([top + h / 2 - 0.5 for top in y[:-1]], labels=[shorten(row.label, 24) for row in rows])
    centres = [left + w / 2 - 0.5 for left in chain(*x)]
    if not headings:
        centres = [(edges[0] + edges[-1] + w - 1) / 2 for edges in x if edges]
        headings = [text for text, edges in zip(block_headings, x, strict=False) if edges]
    axes.xaxis.tick_top()
    longest, room = max(map(len, headings), default=0), cell / w * min(np.diff(centres), default=w)
    slant: dict[str, Any] = {"rotation": 35, "ha": "left"} if longest * _LETTER > room else {}
    axes.set_xticks(centres[: len(headings)], labels=headings, **slant)
    axes.tick_params(length=0, labelsize=10, pad=5)
    if title:
        set_title(axes, title, subtitle, lift=(14 + 4 * longest * bool(slant)) if headings else 0)
    return figure


def _layout(rows: Sequence[ImageRow], h: int, w: int) -> tuple[list[list[int]], list[int], Images]:
    """Arrange images of h by w pixels.

    Returns:
        The left edge of each column, block by block; the upper edge of each row, and one below the last; and
        a white canvas `(H, W, 3)`.
    """
    gap, block_gap, note = (max(1, round(share * w)) for share in (_GAP, _BLOCK_GAP, _NOTE_HEIGHT))
    x: list[list[int]] = []
    left = 0
    for counts in zip_longest(*([len(block) for block in row.blocks] for row in rows), fillvalue=0):
        x.append([left + column * (w + gap) for column in range(max(counts))])
        left += max(counts) * (w + gap) + block_gap
    lines = [max((1 + text.count("\n") for text in row.notes), default=0) for row in rows]
    y = np.cumsum([0, *(h + gap + count * note for count in lines)]).tolist()
    width = max((edges[-1] + w for edges in x if edges), default=1)
    return x, y, np.ones((max(y[-1] - gap, 1), width, 3))


def column_images(column: Column, cells: npt.NDArray[Any] | None) -> Images:
    """Convert the cells of an image column to images as `image_grid_figure` takes them."""
    images = np.asarray(cells)
    channels_first = column.kind == "vector" and image_shape(column) == column.shape
    return np.moveaxis(images, 1, -1) if channels_first else images


def _value_limits(images: Sequence[Images]) -> tuple[float, float]:
    if images and all(batch.dtype == np.uint8 for batch in images):
        return 0.0, float(WHITE)
    values = np.concatenate([np.zeros(0), *(batch.ravel() for batch in images)])
    finite = values[np.isfinite(values)]
    low, high = np.quantile(finite, [0.005, 0.995]) if len(finite) else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1.0

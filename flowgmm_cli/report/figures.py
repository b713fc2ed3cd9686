"""The style that all figures share, and their encoding as PNG and SVG.

Only matplotlib's object interface is used, with the Agg canvas: no display, no global state.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation, Text

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


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure of a size in inches, with a layout that reserves space for labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """Encode a figure as PNG."""
    return _encode(figure, format="png", dpi=dpi, pad_inches=0.18)


def svg(figure: Figure) -> bytes:
    """Encode a figure as SVG on white paper, with text as text and scatter plots as images of 130 dpi."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "flowgmm"}):
        return _encode(figure, format="svg", dpi=130, pad_inches=0.08, metadata={"Date": None})


def _encode(figure: Figure, **options: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks are drawn as boxes
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


def style_axes(axes: Axes, *, grid: Literal["", "x", "y"] = "") -> None:
    """Draw thin grey axes on two sides, and grid lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    if grid:
        axes.grid(True, axis=grid, color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)


def set_title(axes: Axes, title: str, subtitle: str = "", *, lift: float = 0) -> None:
    """Write a title at the left, and a smaller grey line under it, `lift` points above the axes."""
    pad = lift + (26 if subtitle else 10)
    disable_math(axes.set_title(title, loc="left", y=1.0, pad=pad, color=INK, fontsize=12, fontweight="bold"))
    if subtitle:
        place = (0, 1), (0, lift + 8)
        text = annotate(axes, subtitle, *place, xycoords="axes fraction", fontsize=9, color=GREY)
        text.set_in_layout(False)  # a long line must not squeeze the axes


def annotate(
    axes: Axes, text: str, point: tuple[Any, Any], offset: tuple[float, float], **style: Any
) -> Annotation:
    """Write literal text `offset` points away from a point of the data, or of other `xycoords`."""
    annotation = axes.annotate(text, point, offset, textcoords="offset points", **style)
    disable_math(annotation)
    return annotation


def disable_math(*texts: Text) -> None:
    """Show text literally: a `$` in the name of a class does not begin a formula."""
    for text in texts:
        text.set_parse_math(False)


def shorten(name: str, max_letters: int = 18) -> str:
    """Cut a name so that it fits beside an axis."""
    return name if len(name) <= max_letters else f"{name[: max_letters - 1]}…"

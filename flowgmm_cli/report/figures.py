"""What all figures share: paper, colours, and how they become PNG bytes.

Only matplotlib's object interface is used, with the Agg canvas: no display, no global state.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

INK = "#1f2933"
GREY = "#6b7785"
FAINT = "#d9dee4"
PALE = "#b8c0c9"
ACCENT = "#0b6fb8"
SECOND = "#d1495b"
SOLID = "solid"
"""The `gid` of a part whose colours must stay as they are on dark paper, such as text on a coloured cell."""

# Okabe and Ito (2008) and Tol's muted colours, ordered so that neighbours differ for colour-blind eyes too
_CLASSES = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#882255",
    "#56b4e9",
    "#d55e00",
    "#999933",
    "#332288",
    "#7f7f7f",
    "#ddcc77",
    "#44aa99",
)
_METHODS = ("#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7f7f7f", "#56b4e9", "#882255", "#44aa99")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with room made for labels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure, *, dpi: int = 150) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of letters that the font lacks: a box in their place says it as well
        figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.18)
    return file.getvalue()


def class_colours(count: int) -> list[str]:
    """A colour for each of `count` classes; many classes get shades of a colour wheel."""
    if count <= len(_CLASSES):
        return list(_CLASSES[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    wheel = colormaps["turbo"]
    return [to_hex(wheel(0.04 + 0.92 * index / (count - 1))) for index in range(count)]


def method_colours(methods: Sequence[str]) -> dict[str, str]:
    """A colour for each method, the accent for `flowgmm`; the same methods always get the same colours."""
    others = [name for name in methods if name != "flowgmm"]
    found = {name: _METHODS[place % len(_METHODS)] for place, name in enumerate(others)}
    return {"flowgmm": ACCENT, **found}


def method_name(method: str) -> str:
    """A method's name for people."""
    return {"knn": "kNN", "mlp": "MLP"}.get(method, method.replace("_", " "))


def tidy(axes: Axes, *, grid: Literal["", "x", "y"] = "") -> None:
    """Thin grey axes on two sides, and grid lines behind the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=GREY, labelcolor=INK, labelsize=9, length=3)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    if grid:
        axes.grid(True, axis=grid, color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)


def bare(axes: Axes) -> None:
    """No ticks and thin grey borders: for maps whose coordinates say nothing."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def heading(axes: Axes, title: str, subtitle: str = "") -> None:
    """A title at the left, and under it a smaller line in grey."""
    plain(
        axes.set_title(
            title, loc="left", color=INK, fontsize=12, fontweight="bold", pad=26 if subtitle else 10
        )
    )
    if subtitle:
        text = axes.annotate(
            subtitle,
            (0, 1),
            (0, 8),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=9,
            color=GREY,
        )
        text.set_in_layout(False)  # a long line must not squeeze the axes
        plain(text)


def plain(*texts: Text) -> None:
    """Show text as it is: a `$` in the name of a class is no formula."""
    for text in texts:
        text.set_parse_math(False)


def shorten(name: str, most: int = 18) -> str:
    """A name that fits beside an axis."""
    return name if len(name) <= most else f"{name[: most - 1]}…"

"""Histograms of an out-of-distribution score: in-distribution rows, other rows, and the threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.report.figures import (
    ACCENT,
    GREY,
    INK,
    SECOND,
    disable_math,
    new_figure,
    set_title,
    shorten,
    style_axes,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]

BINS = 48
MAX_LINEAR_RANGE = 12.0  # in spreads of the in-distribution rows; a wider axis is asinh-scaled


def histogram_figure(
    inside: Sequence[float] | Floats,
    outside: Sequence[float] | Floats,
    *,
    threshold: float,
    score: str,
    name_in: str = "in-distribution rows",
    name_out: str = "other rows",
    auroc: float | None = None,
) -> Figure:
    """Draw two overlapping histograms of one score, each as shares of its own rows.

    Rows beyond the 1 % and 99 % quantiles of both sides are counted in the outermost bars. If the other rows
    are very far out, the axis is linear near the in-distribution rows and logarithmic beyond them.

    Args:
        inside: scores of in-distribution rows.
        outside: scores of the others.
        threshold: rows above it are flagged.
        score: name of the score.
        name_in: name of the in-distribution rows.
        name_out: name of the others.
        auroc: for the line under the title.
    """
    figure = new_figure(7.2, 3.9)
    axes: Axes = figure.subplots()
    sides = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    edges, width = _bin_edges(*sides, threshold)
    for values, colour, name in zip(sides, (ACCENT, SECOND), (name_in, name_out), strict=True):
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        flagged = float((values > threshold).mean())
        label = f"{shorten(name, 40)} · {flagged:.1%} flagged"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=label, baseline=None)
    if width is not None:
        axes.set_xscale("asinh", linear_width=width)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, position: f"{value:,.6g}")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    _draw_threshold(axes, threshold)
    name = score.replace("_", " ").replace("knn", "kNN")
    axes.set(xlabel=f"{name}: higher is further out", ylabel="share of rows")
    style_axes(axes, grid="y")
    legend = axes.legend(
        loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, frameon=False, fontsize=9, labelcolor=GREY
    )
    disable_math(axes.xaxis.label, *legend.get_texts())
    rows = f"{len(sides[0]):,} and {len(sides[1]):,} rows"
    set_title(axes, "Out-of-distribution score", f"AUROC {auroc:.3f} · {rows}" if auroc is not None else rows)
    return figure


def _draw_threshold(axes: Axes, threshold: float) -> None:
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    x = axes.transAxes.inverted().transform(axes.transData.transform((threshold, 0)))[0]
    style: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    style |= {"ha": "right" if x > 0.6 else "left", "va": "top", "fontsize": 8.5, "color": INK}
    axes.annotate(f"threshold {threshold:.4g}", (threshold, 1), (-5 if x > 0.6 else 5, -4), **style)


def _bin_edges(inside: Floats, outside: Floats, threshold: float) -> tuple[Floats, float | None]:
    """Return the edges of the bins, and the width of the linear part of an asinh axis (None: all linear)."""
    ends = [np.quantile(values, share) for values in (inside, outside) for share in (0.01, 0.99)]
    low, high = min(*ends, threshold), max(*ends, threshold)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    margin = 0.03 * (high - low)
    spread = float(np.quantile(inside, 0.95) - np.quantile(inside, 0.05)) or (high - low)
    if high - low <= MAX_LINEAR_RANGE * spread:
        return np.linspace(low - margin, high + margin, BINS + 1), None
    width = max(spread, abs(float(np.median(inside))))
    edges = np.linspace(np.arcsinh(low / width), np.arcsinh(high / width) + 0.1, BINS + 1)
    return width * np.sinh(edges), width

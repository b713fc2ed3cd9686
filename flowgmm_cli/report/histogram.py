"""Scores of rows that belong and rows that do not, one over the other, with the threshold between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.report.figures import ACCENT, GREY, INK, SECOND, heading, new_figure, plain, shorten, tidy

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]

_BINS = 48
_WIDE = 12.0  # range, in spreads of the rows that belong, beyond which the axis is bent


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

    Rows beyond the last hundredth of a side are counted in the outermost bars. Where the other rows are very
    far out the axis is linear near the rows that belong and logarithmic beyond them.

    Args:
        inside: scores of in-distribution rows.
        outside: scores of the others.
        threshold: rows above it are flagged.
        score: name of the score.
        name_in: what the in-distribution rows are called.
        name_out: what the others are called.
        auroc: for the line under the title.
    """
    figure = new_figure(7.2, 3.9)
    axes: Axes = figure.subplots()
    sides = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    edges, width = _edges(*sides, threshold)
    for values, colour, name in zip(sides, (ACCENT, SECOND), (name_in, name_out), strict=True):
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        flagged = float((values > threshold).mean())
        label = f"{shorten(name, 40)} · {flagged:.1%} flagged"
        axes.stairs(counts, edges, fill=True, color=colour, alpha=0.28, linewidth=0)
        axes.stairs(counts, edges, color=colour, linewidth=1.6, label=label, baseline=None)
    if width is not None:
        axes.set_xscale("asinh", linear_width=width)
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda value, place: f"{value:,.6g}")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, axes.get_ylim()[1] * 1.12)
    axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    late = _place(threshold, edges, width) > 0.6
    text = axes.annotate(
        f"threshold {threshold:.4g}",
        (threshold, 1),
        (-5 if late else 5, -4),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="right" if late else "left",
        va="top",
        fontsize=8.5,
        color=INK,
    )
    axes.set(
        xlabel=f"{score.replace('_', ' ').replace('knn', 'kNN')}: further out to the right",
        ylabel="share of rows",
    )
    tidy(axes, grid="y")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=2, frameon=False, fontsize=9)
    plain(text, axes.xaxis.label, *legend.get_texts())
    rows = f"{len(sides[0]):,} and {len(sides[1]):,} rows"
    heading(axes, "Out-of-distribution score", f"AUROC {auroc:.3f} · {rows}" if auroc is not None else rows)
    for one in legend.get_texts():
        one.set_color(GREY)
    return figure


def _edges(inside: Floats, outside: Floats, threshold: float) -> tuple[Floats, float | None]:
    """Edges of the bins, and the width of the linear part of a bent axis."""
    ends = [np.quantile(values, share) for values in (inside, outside) for share in (0.01, 0.99)]
    low, high = min(*ends, threshold), max(*ends, threshold)
    if not high > low:
        low, high = low - 0.5, high + 0.5
    margin = 0.03 * (high - low)
    spread = float(np.quantile(inside, 0.95) - np.quantile(inside, 0.05)) or (high - low)
    if high - low <= _WIDE * spread:
        return np.linspace(low - margin, high + margin, _BINS + 1), None
    width = max(spread, abs(float(np.median(inside))))
    bent = np.linspace(np.arcsinh(low / width), np.arcsinh(high / width) + 0.1, _BINS + 1)
    return width * np.sinh(bent), width


def _place(value: float, edges: Floats, width: float | None) -> float:
    """Where on the axis a value stands, from 0 to 1."""
    places: Any = np.array([value, edges[0], edges[-1]])
    if width is not None:
        places = np.arcsinh(places / width)
    return float((places[0] - places[1]) / (places[2] - places[1]))

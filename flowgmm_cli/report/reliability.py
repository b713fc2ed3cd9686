"""Reliability diagram: accuracy against confidence (DeGroot and Fienberg, 1983; Guo et al., 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.report.figures import ACCENT, FAINT, GREY, INK, SECOND, heading, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def reliability_figure(
    found: ClassificationMetrics, *, title: str = "Reliability", numbers: bool = True
) -> Figure:
    """Bars of accuracy by confidence with the diagonal and the gaps, and below where the confidences lie.

    Args:
        found: what was measured.
        title: what stands above.
        numbers: whether the calibration errors stand in the figure too.
    """
    figure = new_figure(5.2, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    _bars(above, found)
    if numbers:
        _numbers(above, found)
    _histogram(below, found)
    heading(above, title, f"{found.n:,} rows · accuracy {found.accuracy:.3f} · hatched: gap to confidence")
    return figure


def _bars(axes: Axes, found: ClassificationMetrics) -> None:
    bins = [one for one in found.reliability if one.count]
    centres = np.array([(one.low + one.high) / 2 for one in bins])
    widths = np.array([one.high - one.low for one in bins]) * 0.92
    accuracy = np.array([one.accuracy for one in bins], dtype=float)
    confidence = np.array([one.confidence for one in bins], dtype=float)
    # a bin of a few rows says little: it is drawn pale
    weight = np.clip(np.sqrt([one.count for one in bins]) / 8, 0.25, 1.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    for place in range(len(bins)):
        axes.bar(
            centres[place], accuracy[place], widths[place], color=ACCENT, alpha=0.85 * weight[place], zorder=1
        )
        low, high = sorted((accuracy[place], confidence[place]))
        axes.bar(
            centres[place],
            high - low,
            widths[place],
            bottom=low,
            facecolor="none",
            edgecolor=SECOND,
            hatch="////",
            linewidth=0.8,
            alpha=max(0.35, weight[place]),
            zorder=2,
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    tidy(axes, grid="y")


def _numbers(axes: Axes, found: ClassificationMetrics) -> None:
    lines = [
        ("ECE, bins of equal width", found.ece),
        ("ECE, bins of equal mass", found.adaptive_ece),
        ("Brier score", found.brier),
        ("NLL", found.nll),
    ]
    text = "\n".join(f"{name:<25}{value:7.4f}" for name, value in lines)
    axes.text(
        0.03,
        0.97,
        text,
        transform=axes.transAxes,
        va="top",
        family="monospace",
        fontsize=8.5,
        color=INK,
        bbox={"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": FAINT, "alpha": 0.92},
        zorder=4,
    )


def _histogram(axes: Axes, found: ClassificationMetrics) -> None:
    bins = found.reliability
    centres = [(one.low + one.high) / 2 for one in bins]
    shares = [one.count / found.n for one in bins]
    axes.bar(
        centres,
        shares,
        [(one.high - one.low) * 0.92 for one in bins],
        color=FAINT,
        edgecolor=GREY,
        linewidth=0.6,
    )
    mean = sum(one.count * (one.confidence or 0.0) for one in bins) / found.n
    for value, colour, style in ((mean, SECOND, "-"), (found.accuracy, ACCENT, "--")):
        axes.axvline(value, color=colour, linewidth=1.4, linestyle=style)
    axes.set(xlabel="confidence: probability of the predicted class", ylabel="share of rows")
    top = max([*shares, 0.01]) * 1.15
    axes.set_ylim(0, top)
    left = min(mean, found.accuracy) > 0.5
    axes.text(
        0.03 if left else 0.97,
        0.9,
        f"— mean confidence {mean:.3f}",
        transform=axes.transAxes,
        va="top",
        ha="left" if left else "right",
        fontsize=8.5,
        color=SECOND,
    )
    axes.text(
        0.03 if left else 0.97,
        0.72,
        f"- - accuracy {found.accuracy:.3f}",
        transform=axes.transAxes,
        va="top",
        ha="left" if left else "right",
        fontsize=8.5,
        color=ACCENT,
    )
    tidy(axes, grid="y")

"""Confusion matrix: true class by predicted class, coloured by the share of the true class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.report.figures import ACCENT, FAINT, INK, SOLID, heading, new_figure, plain, shorten, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERS = 14  # classes up to which a cell has room for its count
MOST_NAMES = 60


def confusion_figure(found: ClassificationMetrics, *, title: str = "Confusion") -> Figure:
    """A heat map of the confusion matrix; with few classes every cell says its count."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    counts = np.array(found.confusion)
    classes = len(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(2.4 + 0.4 * classes, 4.2, 10.5))
    figure = new_figure(side + 0.7, side)
    axes = figure.subplots()
    # a share of nothing is the paper itself, whatever its colour
    accent = to_rgb(ACCENT)
    blues = LinearSegmentedColormap.from_list("share", [(*accent, 0.0), (*accent, 1.0)])
    image = axes.imshow(shares, cmap=blues, vmin=0, vmax=1)
    names = [shorten(one.name, 14) for one in found.per_class]
    step = max(1, -(-classes // MOST_NAMES))
    places = list(range(0, classes, step))
    size = 9.0 if classes <= 20 else 6.5
    long = max(len(name) for name in names) > 4 and classes > 4
    shown = [names[place] for place in places]
    axes.set_xticks(
        places, shown, rotation=45 if long else 0, ha="right" if long else "center", fontsize=size
    )
    axes.set_yticks(places, shown, fontsize=size)
    plain(*axes.get_xticklabels(), *axes.get_yticklabels())
    axes.set(xlabel="predicted", ylabel="true")
    if classes <= MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                dark = shares[row, column] > 0.5
                axes.text(
                    column,
                    row,
                    f"{count:,}",
                    ha="center",
                    va="center",
                    fontsize=9,
                    color="white" if dark else INK,
                    gid=f"{SOLID}-{row}-{column}" if dark else None,
                )
    tidy(axes)
    axes.tick_params(labelsize=size, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    edges = np.arange(-0.5, classes)
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    if classes <= 40:
        axes.grid(which="minor", color=FAINT, linewidth=0.8)
    axes.tick_params(which="minor", length=0)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of the true class", fontsize=9)
    heading(axes, title, f"{found.n:,} rows · balanced accuracy {found.balanced_accuracy:.3f}")
    return figure

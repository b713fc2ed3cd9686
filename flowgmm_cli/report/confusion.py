"""The confusion matrix: true class by predicted class, coloured by the share of the true class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import (
    ACCENT,
    FAINT,
    INK,
    disable_math,
    new_figure,
    set_title,
    shorten,
    style_axes,
)
from flowgmm_cli.report.page import Part, plot
from flowgmm_cli.report.results import require_evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COUNTED_CLASSES = 14  # up to this number of classes a cell has space for its count
MAX_LINED_CLASSES = 40
MAX_NAMES = 60


def confusion_section(context: ReportContext) -> list[Part]:
    """The confusion matrix of the test rows."""
    figure = confusion_figure(require_evaluation(context).classification, title="Confusion matrix")
    caption = (
        "Each line is a true class, each column a predicted class; right predictions are on the diagonal. "
        "The colour is the share of the true class, so a dark cell off the diagonal is a common confusion "
        "of that class."
    )
    return [plot(figure, name="confusion", caption=caption)]


def confusion_figure(metrics: ClassificationMetrics, *, title: str = "Confusion") -> Figure:
    """Draw a heat map of the confusion matrix, with the count in every cell if there are few classes."""
    from matplotlib.colors import LinearSegmentedColormap

    counts = np.array(metrics.confusion)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(2.4 + 0.4 * len(counts), 4.2, 10.5))
    figure = new_figure(side + 0.7, side)
    axes = figure.subplots()
    blues = LinearSegmentedColormap.from_list("share", ["white", ACCENT])
    image = axes.imshow(shares, cmap=blues, vmin=0, vmax=1)
    style_axes(axes)
    _label_classes(axes, [shorten(row.name, 14) for row in metrics.per_class])
    if len(counts) <= MAX_COUNTED_CLASSES:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if shares[row, column] > 0.5 else INK
            if count:
                axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=9, color=colour)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of the true class", fontsize=9)
    set_title(axes, title, f"{metrics.n:,} rows · balanced accuracy {metrics.balanced_accuracy:.3f}")
    return figure


def _label_classes(axes: Axes, names: list[str]) -> None:
    """Write the names of the classes on both axes, and draw lines between cells."""
    classes = len(names)
    ticks = list(range(0, classes, -(-classes // MAX_NAMES)))
    labels = [names[tick] for tick in ticks]
    rotate = max(len(name) for name in names) > 4 and classes > 4
    axes.set_xticks(ticks, labels, rotation=45 if rotate else 0, ha="right" if rotate else "center")
    axes.set_yticks(ticks, labels)
    disable_math(*axes.get_xticklabels(), *axes.get_yticklabels())
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(labelsize=9.0 if classes <= 20 else 6.5, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    edges = np.arange(-0.5, classes)
    axes.set_xticks(edges, minor=True)
    axes.set_yticks(edges, minor=True)
    if classes <= MAX_LINED_CLASSES:
        axes.grid(which="minor", color=FAINT, linewidth=0.8)
    axes.tick_params(which="minor", length=0)

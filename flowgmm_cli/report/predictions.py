"""Sections on the predictions: confusion matrix, reliability diagram (Guo et al., 2017), and calibration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import (
    ACCENT,
    FAINT,
    GREY,
    SECOND,
    figure_style,
    new_axes,
    new_figure,
    set_title,
)
from flowgmm_cli.report.page import Paragraph, Part, plot
from flowgmm_cli.report.tables import class_table
from flowgmm_cli.report.text import describe_calibration, mean_confidence, percent, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CLASSES = 100  # of a whole confusion matrix
CONFUSED_CLASSES = 50  # of the matrix of more classes
MAX_COUNTED_CLASSES = 14  # up to this number of classes a cell has space for its count
MAX_LINED_CLASSES = 40
_LETTER = 0.085  # width of a letter of a name, in inches


def confusion_section(context: ReportContext) -> Iterator[Part]:
    """The confusion matrix of the test rows."""
    metrics = context.require_evaluation().classification
    caption = (
        "Each line is a true class, each column a predicted class; right predictions are on the diagonal. "
        "The colour is the share of the true class, so a dark cell off the diagonal is a common confusion "
        "of that class."
    )
    if (classes := len(metrics.per_class)) > MAX_CLASSES:
        caption += (
            f" Of the {classes:,} classes the figure shows the {CONFUSED_CLASSES} with the most frequent "
            "confusions."
        )
    yield plot(confusion_figure(metrics), name="confusion", caption=caption)


def select_classes(metrics: ClassificationMetrics) -> list[int]:
    """Return all classes; of many those with the most frequent confusions, then with the most right rows."""
    if len(metrics.per_class) <= MAX_CLASSES:
        return list(range(len(metrics.per_class)))
    cells = sorted(metrics.confusion_cells, key=lambda cell: (cell[0] == cell[1], -cell[2]))
    classes = dict.fromkeys(index for cell in cells for index in cell[:2])
    return sorted(list(classes)[:CONFUSED_CLASSES])


@figure_style()
def confusion_figure(metrics: ClassificationMetrics) -> Figure:
    """Draw a heat map of the confusion matrix, with the count in every cell if there are few classes.

    Of many classes those of `select_classes` are drawn.
    """
    from matplotlib.colors import LinearSegmentedColormap

    places = {index: place for place, index in enumerate(select_classes(metrics))}
    classes = len(places)
    counts = np.zeros((classes, classes), dtype=np.int64)
    for true, predicted, count in metrics.confusion_cells:
        if true in places and predicted in places:
            counts[places[true], places[predicted]] = count
    shares = counts / np.maximum([[metrics.per_class[index].support] for index in places], 1)
    side = float(np.clip(2.4 + 0.4 * classes, 4.2, 10.5))
    subtitle = f"{metrics.n:,} rows · balanced accuracy {metrics.balanced_accuracy:.3f}"
    if classes < len(metrics.per_class):
        subtitle += f" · {classes} of {len(metrics.per_class):,} classes"
    names = [shorten(metrics.per_class[index].name, 40) for index in places]
    longest = max(map(len, names))
    rotate = longest * _LETTER > 0.7 * side / classes
    room = max(0.0, _LETTER * (longest - 12))  # inches; the names of the columns are upright or slanted
    height = side + (0.7 * room if rotate else 0)
    figure, axes = new_axes(side + 0.7 + room, height, "Confusion matrix", subtitle)
    blues = LinearSegmentedColormap.from_list("share", ["white", ACCENT])
    image = axes.imshow(shares, cmap=blues, vmin=0, vmax=1)
    style: dict[str, Any] = {"rotation": 45, "ha": "right"} if rotate else {}
    axes.set_xticks(range(classes), names, **({"rotation": 90} if classes > 60 else style))
    axes.set_yticks(range(classes), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.spines[:].set_visible(False)
    if classes <= MAX_LINED_CLASSES:
        edges = np.arange(-0.5, classes)
        axes.set_xticks(edges, minor=True)
        axes.set_yticks(edges, minor=True)
        axes.grid(which="minor", linewidth=0.8)
    axes.tick_params(
        which="both", labelsize=9.0 if classes <= 20 else 6.5 if classes <= 60 else 5.0, length=0
    )
    for (row, column), number in np.ndenumerate(counts):
        if number and classes <= MAX_COUNTED_CLASSES:
            text = axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=9)
            if shares[row, column] > 0.5:
                text.set_color("white")
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of the true class", fontsize=9)
    return figure


def reliability_section(context: ReportContext) -> Iterator[Part]:
    """The reliability diagram of the test rows."""
    metrics = context.require_evaluation().classification
    figure = reliability_figure(metrics, title="Accuracy by confidence", with_metrics=False)
    caption = (
        "Rows are grouped by the confidence of the model. A bar is the share of right predictions in a "
        "group; on the dashed line it equals the stated confidence. The gap is hatched: above the bar the "
        "model is overconfident, inside it underconfident. Pale bars rest on few rows. Below: number of rows "
        "by confidence."
    )
    yield plot(figure, name="reliability", caption=caption)
    if calibration := context.info.get("calibration"):
        yield Paragraph(describe_calibration(calibration))


@figure_style()
def reliability_figure(
    metrics: ClassificationMetrics, *, title: str = "Reliability", with_metrics: bool = True
) -> Figure:
    """Draw bars of accuracy by confidence with diagonal and gaps, above a histogram of the confidences.

    `with_metrics` writes the calibration errors into the figure.
    """
    figure = new_figure(5.2, 6.2)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    _draw_bars(above, metrics)
    _draw_histogram(below, metrics)
    if with_metrics:
        values = {
            "ECE, bins of equal width": metrics.ece,
            "ECE, bins of equal mass": metrics.adaptive_ece,
            "Brier score": metrics.brier,
            "NLL": metrics.nll,
        }
        text = "\n".join(f"{name:<25}{value:7.4f}" for name, value in values.items())
        box = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": FAINT, "alpha": 0.92}
        style: dict[str, Any] = {"family": "monospace", "fontsize": 8.5, "bbox": box, "zorder": 4}
        above.text(0.03, 0.97, text, transform=above.transAxes, va="top", **style)
    subtitle = f"{metrics.n:,} rows · accuracy {metrics.accuracy:.3f} · hatched: gap to confidence"
    set_title(above, title, subtitle)
    return figure


def _draw_bars(axes: Axes, metrics: ClassificationMetrics) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.2, linestyle="--", zorder=3)
    gap: dict[str, Any] = {"facecolor": "none", "edgecolor": SECOND, "hatch": "////", "linewidth": 0.8}
    for group in metrics.reliability:
        if not group.count or group.accuracy is None or group.confidence is None:
            continue
        centre, width = (group.low + group.high) / 2, 0.92 * (group.high - group.low)
        # a bin with few rows is uncertain and drawn pale
        weight = float(np.clip(np.sqrt(group.count) / 8, 0.25, 1.0))
        low, high = sorted((group.accuracy, group.confidence))
        axes.bar(centre, group.accuracy, width, color=ACCENT, alpha=0.85 * weight, zorder=1)
        axes.bar(centre, high - low, width, bottom=low, alpha=max(0.35, weight), zorder=2, **gap)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.grid(axis="y")


def _draw_histogram(axes: Axes, metrics: ClassificationMetrics) -> None:
    low, high, counts = np.array([(group.low, group.high, group.count) for group in metrics.reliability]).T
    shares = counts / metrics.n
    axes.bar((low + high) / 2, shares, 0.92 * (high - low), color=FAINT, edgecolor=GREY, linewidth=0.6)
    axes.set(xlabel="confidence: probability of the predicted class", ylabel="share of rows")
    axes.set_ylim(0, max(shares.max(), 0.01) * 1.15)
    axes.grid(axis="y")
    confidence, accuracy = mean_confidence(metrics), metrics.accuracy
    axes.axvline(confidence, color=SECOND, linewidth=1.4, label=f"mean confidence {confidence:.3f}")
    style: dict[str, Any] = {"color": ACCENT, "linewidth": 1.4, "linestyle": "--"}
    axes.axvline(accuracy, label=f"accuracy {accuracy:.3f}", **style)
    axes.legend(loc="upper left" if min(confidence, accuracy) > 0.5 else "upper right", fontsize=8.5)


def calibration_section(context: ReportContext) -> Iterator[Part]:
    """Temperature, and the class frequencies that the model assumes, beside those of the labels."""
    calibration = context.info.get("calibration")
    if not calibration:
        raise UnavailableError("The run stopped before its calibration.")
    yield Paragraph(describe_calibration(calibration))
    if calibration.get("accuracy") is not None:
        labels, accuracy = pluralise(int(calibration["rows"]), "label"), percent(calibration["accuracy"])
        text = f"The model predicted {accuracy} of the {labels} of the calibration right."
        yield Paragraph(text, "note")
    prior, counts = np.array(context.facts.get("class_prior") or []), context.labelled_counts
    if not len(prior) or len(prior) != len(context.class_names):
        return
    caption = (
        "Assumed share: frequency of the class that the model assumes before it sees a row "
        "(prior.class_prior). If the classes have other frequencies where the model is used, its confidences "
        "shift."
    )
    columns, shares = ["class", "assumed share"], [prior]
    if counts is not None and counts.sum():
        columns.append("share of the labelled rows")
        shares.append(counts / counts.sum())
        caption += (
            " If the labelled rows were drawn at random, their shares are those of all rows, and "
            "`prior.class_prior=labelled` assumes them."
        )
    rows = [[name, *map(percent, pair)] for name, *pair in zip(context.class_names, *shares, strict=True)]
    yield class_table(columns, rows, caption, order=-shares[-1], choice="the largest shares")

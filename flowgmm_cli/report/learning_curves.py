"""The section of learning curves: quantities of `metrics.jsonl` by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import (
    ACCENT,
    INK,
    LINE_COLOURS,
    SECOND,
    annotate,
    disable_math,
    new_figure,
    set_title,
    style_axes,
)
from flowgmm_cli.report.page import Paragraph, Part, plot
from flowgmm_cli.runs import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_POINTS = 800  # of a line; longer series are thinned out
_MAX_MARKERS = 25
_NO_METRICS = {"step", "epoch", "split", "seconds"}
_LOSS_TERMS = {"labelled": "error on labelled rows", "unlabelled": "density of all rows"}


class Metric(NamedTuple):
    """A monitored metric: title of its figure, caption, and the direction of better values."""

    title: str
    caption: str
    higher_is_better: bool = False


METRICS = {
    "monitor.loss": Metric(
        "Loss on held-out rows",
        "The training loss without its labelled term, measured after each epoch on held-out rows. If it "
        "rises while the training loss falls, the model overfits.",
    ),
    "monitor.agreement": Metric(
        "Agreement on held-out rows",
        "Share of held-out rows that get the same class with and without augmentation. It needs no labels; "
        "a model that has learned robust features agrees with itself.",
        higher_is_better=True,
    ),
    "val.nll": Metric(
        "Log loss on labelled held-out rows",
        "Log loss on held-out rows with labels (beyond the labelled training rows).",
    ),
    "val.accuracy": Metric(
        "Accuracy on labelled held-out rows",
        "Share of right predictions on held-out rows with labels (beyond the training labels).",
        higher_is_better=True,
    ),
}


@dataclass(frozen=True)
class Series:
    """A quantity by epoch; `name` is its key in the file, such as `loss.labelled`."""

    name: str
    epochs: Sequence[float]
    values: Sequence[float]


def curves_section(context: ReportContext) -> list[Part]:
    """Figures of the loss and its terms, the monitored metrics and the learning rate."""
    history = read_history(context.run.metrics)
    figure = loss_figure(history)
    if figure is None:
        raise UnavailableError("Nothing was logged: metrics.jsonl is missing or empty.")
    parts: list[Part] = []
    members = len(context.info.get("members") or ())
    if members > 1:
        parts.append(Paragraph(f"These are the curves of the first of {members} members.", "note"))
    parts.append(plot(figure, name="loss", caption=_describe_loss(context, history)))
    best = context.info.get("best") or {}
    for name, metric in METRICS.items():
        if name not in history:
            continue
        epoch, caption = None, metric.caption
        if name == best.get("metric"):
            epoch = best.get("epoch")
            caption += f" The weights of epoch {epoch} are the best by this metric, and the model has them."
        figure = series_figure(history[name], title=metric.title, best_epoch=epoch)
        parts.append(plot(figure, name=name.replace(".", "-"), caption=caption))
    if "lr" in history:
        figure = series_figure(history["lr"], title="Learning rate")
        caption = "Learning rate, the step size of the optimiser, by epoch."
        parts.append(plot(figure, name="learning-rate", caption=caption))
    return parts


def _describe_loss(context: ReportContext, history: Mapping[str, Series]) -> str:
    terms = {
        "labelled": "error on labelled rows (how badly the model predicts their classes)",
        "unlabelled": "density of all rows (how unlikely the model finds the training rows)",
    }
    for component in context.recipe.regularisers:
        try:
            summary = registry().find("regulariser", component.use).spec().summary
        except FlowgmmError:  # its plugin is no longer installed
            continue
        terms[component.use.rpartition("/")[2]] = f"{component.use} ({summary[0].lower()}{summary[1:]})"
    logged = [text for name, text in terms.items() if f"loss.{name}" in history]
    return "The training loss and the terms of its sum, by epoch: " + "; ".join(logged) + "."


def read_history(path: Path) -> dict[str, Series]:
    """Read every quantity of a `metrics.jsonl`, by name; empty if there is no such file."""
    return collect_series(read_metrics(path)) if path.is_file() else {}


def collect_series(lines: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Collect every quantity of log lines, by name, without values that are no numbers."""
    points: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        epoch = line.get("epoch")
        if not isinstance(epoch, int | float):
            continue
        for name, value in line.items():
            if name not in _NO_METRICS and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((float(epoch), float(value)))
    return {name: Series(name, *zip(*pairs, strict=True)) for name, pairs in points.items()}


def loss_figure(history: Mapping[str, Series]) -> Figure | None:
    """Draw the loss and its terms; None if no loss was logged."""
    if "loss" not in history:
        return None
    figure = new_figure(4.9, 3.4)
    axes = figure.subplots()
    terms = [series for name, series in history.items() if name.startswith("loss.")]
    for index, series in enumerate(terms):
        term = series.name.removeprefix("loss.")
        label = _LOSS_TERMS.get(term, term.replace("_", " "))
        _draw_line(axes, series, LINE_COLOURS[index % len(LINE_COLOURS)], 1.3, label)
    _draw_line(axes, history["loss"], ACCENT, 2.2, "loss, the sum")
    _style_lines(axes, legend={"bbox_to_anchor": (0.5, -0.2), "ncols": 2, "columnspacing": 1.2})
    final = history["loss"].values[-1]
    set_title(axes, "Training loss", f"sum of its terms, lower is better · {final:.3f} at the end")
    return figure


def series_figure(series: Series, *, title: str, best_epoch: float | None = None) -> Figure:
    """Draw a quantity by epoch, with a mark at the best epoch."""
    metric = METRICS.get(series.name)
    higher = metric is not None and metric.higher_is_better
    figure = new_figure(4.9, 2.9)
    axes = figure.subplots()
    _draw_line(axes, series, ACCENT, 1.8, series.name)
    if best_epoch is not None:
        _mark_best(axes, series, best_epoch, at_bottom=higher)
    _style_lines(axes)
    final = series.values[-1]
    subtitle = f"lower is better · {final:.3f} at the end"
    if series.name == "lr":
        axes.yaxis.set_major_formatter("{x:.2g}")
        subtitle = f"at most {max(series.values):.2g}"
    elif higher:
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        subtitle = f"higher is better · {final:.1%} at the end"
    set_title(axes, title, subtitle)
    return figure


def overlay_figure(lines: Mapping[str, Series], *, title: str, subtitle: str = "") -> Figure:
    """Draw the same quantity of several runs, by name."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    colours = (ACCENT, SECOND, *LINE_COLOURS)
    for index, (name, series) in enumerate(lines.items()):
        _draw_line(axes, series, colours[index % len(colours)], 1.8, name)
    _style_lines(axes, legend={"bbox_to_anchor": (0.5, -0.18)})
    set_title(axes, title, subtitle)
    return figure


def _draw_line(axes: Axes, series: Series, colour: str, width: float, label: str) -> None:
    step = max(1, len(series.epochs) // _MAX_POINTS)
    epochs, values = series.epochs[::step], series.values[::step]
    marker = "o" if len(epochs) <= _MAX_MARKERS else None
    axes.plot(epochs, values, color=colour, linewidth=width, marker=marker, markersize=3.5, label=label)


def _mark_best(axes: Axes, series: Series, best: float, *, at_bottom: bool) -> None:
    index = int(np.abs(np.array(series.epochs) - best).argmin())
    epoch, value = series.epochs[index], series.values[index]
    axes.axvline(epoch, color=SECOND, linewidth=1.1, linestyle=(0, (4, 3)))
    axes.plot(epoch, value, "o", color=SECOND, markersize=6)
    on_the_right = epoch > (min(series.epochs) + max(series.epochs)) / 2
    x, side = (-6, "right") if on_the_right else (6, "left")
    y, edge = (0.04, "bottom") if at_bottom else (0.96, "top")
    style = {"xycoords": ("data", "axes fraction"), "ha": side, "va": edge, "fontsize": 8.5, "color": SECOND}
    annotate(axes, f"best: epoch {best:g}", (epoch, y), (x, 0), **style)


def _style_lines(axes: Axes, *, legend: Mapping[str, Any] | None = None) -> None:
    axes.set_xlabel("epoch")
    style_axes(axes, grid="y")
    if legend is not None:
        box = axes.legend(frameon=False, fontsize=8.5, loc="upper center", labelcolor=INK, **legend)
        disable_math(*box.get_texts())

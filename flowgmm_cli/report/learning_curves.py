"""The section of learning curves: quantities of `metrics.jsonl` by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.formatting import format_number
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import ACCENT, LINE_COLOURS, SECOND, figure_style, new_axes
from flowgmm_cli.report.page import Paragraph, Part, plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_POINTS = 800  # of a line; longer series are thinned out
_MAX_MARKERS = 25
_NO_METRICS = {"step", "epoch", "split", "seconds"}
_LOSS_TERMS = {
    "labelled": "error on labelled rows (how badly the model predicts their classes)",
    "unlabelled": "density of all rows (how unlikely the model finds the training rows)",
}


class Metric(NamedTuple):
    """A monitored metric: title of its figure, caption, and the direction of better values."""

    title: str
    caption: str
    higher_is_better: bool = False


METRICS = {
    "loss": Metric(
        "Training loss",
        "Runs with other terms or weights have other losses: compare their shape, not their height.",
    ),
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


class Series(NamedTuple):
    """A quantity by epoch."""

    epochs: Sequence[float]
    values: Sequence[float]


def curves_section(context: ReportContext) -> Iterator[Part]:
    """Figures of the loss and its terms, the monitored metrics and the learning rate."""
    history = read_history(context.run.metrics)
    if "loss" not in history:
        raise UnavailableError("Nothing was logged: metrics.jsonl is missing or empty.")
    members = len(context.info.get("members") or ())
    if members > 1:
        yield Paragraph(f"These are the curves of the first of {members} members.", "note")
    terms = {name.removeprefix("loss."): history[name] for name in history if name.startswith("loss.")}
    names = {term: _LOSS_TERMS.get(term, term.replace("_", " ")).partition(" (")[0] for term in terms}
    figure = curves_figure(
        {"loss, the sum": history["loss"], **{names[term]: series for term, series in terms.items()}},
        title=METRICS["loss"].title,
        subtitle=f"sum of its terms, lower is better · {history['loss'].values[-1]:.3f} at the end",
    )
    yield plot(figure, name="loss", caption=_describe_loss(context, terms))
    best = context.info.get("best") or {}
    for name, metric in METRICS.items():
        if name not in history or name == "loss":
            continue
        final, caption, epoch = history[name].values[-1], metric.caption, None
        subtitle, number = f"lower is better · {final:.3f} at the end", ""
        if metric.higher_is_better:
            subtitle, number = f"higher is better · {final:.1%} at the end", "%"
        if name == best.get("metric"):
            epoch = best.get("epoch")
            caption += f" The weights of epoch {epoch} are the best by this metric, and the model has them."
        lines, title = {metric.title: history[name]}, metric.title
        figure = curves_figure(lines, title=title, subtitle=subtitle, number=number, best_epoch=epoch)
        yield plot(figure, name=name.replace(".", "-"), caption=caption)
    if "lr" in history:
        lines, subtitle = {"lr": history["lr"]}, f"at most {max(history['lr'].values):.2g}"
        figure = curves_figure(lines, title="Learning rate", subtitle=subtitle, number="{x:.2g}")
        caption = "Learning rate, the step size of the optimiser, by epoch."
        yield plot(figure, name="learning-rate", caption=caption)


def _describe_loss(context: ReportContext, terms: Mapping[str, Series]) -> str:
    descriptions = dict(_LOSS_TERMS)
    for component in context.recipe.regularisers:
        with suppress(FlowgmmError):  # its plugin may be no longer installed
            summary = registry().find("regulariser", component.use).spec().summary
            name = component.use.rpartition("/")[2]
            descriptions[name] = f"{component.use} ({summary[0].lower()}{summary[1:]})"
    logged = [text for name, text in descriptions.items() if name in terms]
    return "The training loss and the terms of its sum, by epoch: " + "; ".join(logged) + "."


def read_history(path: Path) -> dict[str, Series]:
    """Read every quantity of a `metrics.jsonl` by name, without values that are no numbers.

    The result is empty if there is no such file.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for line in read_metrics(path) if path.is_file() else ():
        epoch = line.get("epoch")
        if not isinstance(epoch, int | float):
            continue
        for name, value in line.items():
            if name not in _NO_METRICS and isinstance(value, int | float) and not isinstance(value, bool):
                points.setdefault(name, []).append((float(epoch), float(value)))
    return {name: Series(*zip(*pairs, strict=True)) for name, pairs in points.items()}


@figure_style()
def curves_figure(
    lines: Mapping[str, Series],
    *,
    title: str,
    subtitle: str = "",
    number: str = "",
    best_epoch: float | None = None,
) -> Figure:
    """Draw quantities by epoch, the first of them as the thickest line; several lines have a legend.

    `number` is the format of the numbers beside the axis, `%` for shares. A mark in the first line shows the
    best epoch.
    """
    has_legend = len(lines) > 1 or best_epoch is not None
    figure, axes = new_axes(4.9, 3.4 if has_legend else 2.9, title, subtitle)
    for index, (name, series) in enumerate(lines.items()):
        colour = LINE_COLOURS[(index - 1) % len(LINE_COLOURS)] if index else ACCENT
        step = max(1, len(series.epochs) // _MAX_POINTS)
        epochs, values = series.epochs[::step], series.values[::step]
        width, order = (1.3, 2.0) if index else (2.0, 2.1)
        marker = "o" if len(epochs) <= _MAX_MARKERS else ""
        style: dict[str, Any] = {"linewidth": width, "zorder": order, "marker": marker, "markersize": 3.5}
        axes.plot(epochs, values, color=colour, label=name, **style)
    axes.set_xlabel("epoch")
    axes.grid(axis="y")
    if number == "%":
        axes.yaxis.set_major_formatter(lambda value, position: f"{format_number(100 * value)}%")
    elif number:
        axes.yaxis.set_major_formatter(number)
    if best_epoch is not None:
        label = f"best: epoch {best_epoch:g}"
        axes.axvline(best_epoch, color=SECOND, linewidth=1.1, linestyle="--", label=label)
    if has_legend:
        columns = 2 if max(map(len, lines)) < 30 else 1
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=columns, columnspacing=1.2)
    return figure

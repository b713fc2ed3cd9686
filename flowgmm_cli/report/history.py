"""The course of a training: what `metrics.jsonl` says, and figures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.report.figures import ACCENT, INK, SECOND, heading, new_figure, plain, tidy
from flowgmm_cli.training.metrics_log import read_metrics

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TERMS = ("#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#d55e00", "#999933", "#7f7f7f")
_NOT_METRICS = {"step", "epoch", "split", "seconds"}
HIGHER_IS_BETTER = {"monitor.agreement", "val.accuracy"}
WORDS = {
    "monitor.loss": "loss without labels, held-out rows",
    "monitor.agreement": "agreement under both views, held-out rows",
    "val.nll": "NLL of labelled held-out rows",
    "val.accuracy": "accuracy on labelled held-out rows",
    "loss.labelled": "error on labelled rows",
    "loss.unlabelled": "density of all rows",
}


@dataclass(frozen=True)
class Series:
    """One quantity over a training.

    Attributes:
        name: as in the file, such as `loss.labelled`.
        epochs, values: where it was measured, and what was found.
    """

    name: str
    epochs: Sequence[float]
    values: Sequence[float]

    @property
    def words(self) -> str:
        """What it is, for people."""
        return WORDS.get(self.name, self.name.removeprefix("loss.").replace("_", " "))


def read_history(path: Path) -> dict[str, Series]:
    """Every quantity of a `metrics.jsonl`, by name; empty if there is no such file."""
    return history(read_metrics(path)) if path.is_file() else {}


def history(lines: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """Every quantity of the lines, by name; what was not finite is left out."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        epoch = line.get("epoch")
        for name, value in line.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if name in _NOT_METRICS or not number or not isinstance(epoch, int | float):
                continue
            epochs, values = found.setdefault(name, ([], []))
            epochs.append(float(epoch))
            values.append(float(value))
    return {name: Series(name, *both) for name, both in found.items()}


def loss_figure(found: Mapping[str, Series], *, title: str = "Training loss") -> Figure | None:
    """The loss and the terms it is the sum of; None where nothing was logged."""
    if "loss" not in found:
        return None
    figure = new_figure(4.9, 3.4)
    axes = figure.subplots()
    terms = [one for name, one in found.items() if name.startswith("loss.")]
    for place, one in enumerate(terms):
        _line(axes, one, colour=_TERMS[place % len(_TERMS)], width=1.3, label=one.words)
    _line(axes, found["loss"], colour=ACCENT, width=2.2, label="loss, the sum")
    axes.set_xlabel("epoch")
    tidy(axes, grid="y")
    legend = axes.legend(
        frameon=False,
        fontsize=8.5,
        loc="upper center",
        bbox_to_anchor=(0.5, -0.2),
        ncols=2,
        columnspacing=1.2,
        labelcolor=INK,
    )
    plain(*legend.get_texts())
    last = found["loss"].values[-1]
    heading(axes, title, f"sum of its terms, lower is better · {last:.3f} at the end")
    return figure


def series_figure(one: Series, *, title: str, best: float | None = None, percent: bool = False) -> Figure:
    """One quantity over the epochs; `best` marks the epoch whose weights were kept."""
    figure = new_figure(4.9, 2.9)
    axes = figure.subplots()
    _line(axes, one, colour=ACCENT, width=1.8, label=one.words)
    if best is not None:
        at = int(np.abs(np.array(one.epochs) - best).argmin())
        axes.axvline(one.epochs[at], color=SECOND, linewidth=1.1, linestyle=(0, (4, 3)))
        axes.plot(one.epochs[at], one.values[at], "o", color=SECOND, markersize=6)
        right = one.epochs[at] > (min(one.epochs) + max(one.epochs)) / 2
        axes.annotate(
            f"kept: epoch {best:g}",
            (one.epochs[at], 0.04 if one.name in HIGHER_IS_BETTER else 0.96),
            (-6 if right else 6, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if right else "left",
            va="bottom" if one.name in HIGHER_IS_BETTER else "top",
            fontsize=8.5,
            color=SECOND,
        )
    if percent:
        from matplotlib.ticker import PercentFormatter

        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("epoch")
    tidy(axes, grid="y")
    if one.name == "lr":
        axes.yaxis.set_major_formatter("{x:.2g}")
        heading(axes, title, f"at most {max(one.values):.2g}")
        return figure
    better = "higher" if one.name in HIGHER_IS_BETTER else "lower"
    shown = f"{one.values[-1]:.1%}" if percent else f"{one.values[-1]:.3f}"
    heading(axes, title, f"{better} is better · {shown} at the end")
    return figure


def overlay_figure(lines: Mapping[str, Series], *, title: str, subtitle: str = "") -> Figure:
    """The same quantity of several runs, by name."""
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    colours = (ACCENT, SECOND, *_TERMS)
    for place, (name, one) in enumerate(lines.items()):
        _line(axes, one, colour=colours[place % len(colours)], width=1.8, label=name)
    axes.set_xlabel("epoch")
    tidy(axes, grid="y")
    legend = axes.legend(
        frameon=False, fontsize=8.5, loc="upper center", bbox_to_anchor=(0.5, -0.18), labelcolor=INK
    )
    plain(*legend.get_texts())
    heading(axes, title, subtitle)
    return figure


def _line(axes: Any, one: Series, *, colour: str, width: float, label: str) -> None:
    """A line, with dots where the points are few; of very many points a part is drawn."""
    step = max(1, len(one.epochs) // 800)
    epochs, values = one.epochs[::step], one.values[::step]
    marker = "o" if len(epochs) <= 25 else None
    axes.plot(epochs, values, color=colour, linewidth=width, marker=marker, markersize=3.5, label=label)

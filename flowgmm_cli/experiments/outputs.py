"""The files of an experiment: csv, JSON and a figure, each replaced as a whole after every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.results import FLOWGMM, Group, Result, group_results, to_csv
from flowgmm_cli.files import write_bytes, write_json, write_text
from flowgmm_cli.report.figures import (
    ACCENT,
    FAINT,
    GREY,
    INK,
    disable_math,
    method_colours,
    new_figure,
    png,
    set_title,
    shorten,
    style_axes,
)
from flowgmm_cli.report.text import method_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COMBINATIONS = 60  # of more combinations the worst are not drawn


@dataclass(frozen=True)
class MethodCurve:
    """The learning curve of a method."""

    method: str  # its name; `flowgmm` stands out
    x: Sequence[int]  # numbers of labels, ascending
    mean: Sequence[float]  # mean, low, high: accuracy at each, and the band around it
    low: Sequence[float]
    high: Sequence[float]


def curve_figure(curves: Sequence[MethodCurve], *, title: str, subtitle: str = "") -> Figure:
    """Draw mean lines with bands on a logarithmic axis of labels, with a name at the right end of each."""
    figure = new_figure(7.6, 4.9)
    axes = figure.subplots()
    colours = method_colours(sorted({curve.method for curve in curves}))
    for curve in curves:
        is_flowgmm = curve.method == "flowgmm"
        colour, order = colours[curve.method], 4 if is_flowgmm else 3
        axes.fill_between(
            curve.x, curve.low, curve.high, color=colour, alpha=0.2 if is_flowgmm else 0.07, linewidth=0
        )
        style: dict[str, Any] = {
            "linewidth": 2.6 if is_flowgmm else 1.4,
            "markersize": 6 if is_flowgmm else 4,
        }
        style |= {"marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.8, "zorder": order}
        axes.plot(curve.x, curve.mean, color=colour, **style)
    ticks = sorted({x for curve in curves for x in curve.x})
    axes.set_xscale("log")
    labelled = _thin_out(ticks)
    axes.set_xticks(labelled, [f"{tick:,}" for tick in labelled])
    axes.minorticks_off()
    if len(ticks) > 1:
        margin = (ticks[-1] / ticks[0]) ** 0.04
        axes.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    axes.set(xlabel="labelled rows", ylabel="test accuracy")
    style_axes(axes, grid="y")
    _write_names(axes, curves, colours)
    set_title(axes, title, subtitle)
    return figure


def _thin_out(ticks: Sequence[int]) -> list[int]:
    """Select ticks whose labels do not overlap on a logarithmic axis."""
    selection = list(ticks[:1])
    for tick in ticks[1:]:
        if np.log(tick / selection[-1]) >= np.log(ticks[-1] / ticks[0]) / 14:
            selection.append(tick)
    return selection


def _write_names(axes: Axes, curves: Sequence[MethodCurve], colours: Mapping[str, str]) -> None:
    """Write the names of the methods beside the right end, without overlaps."""
    low, high = axes.get_ylim()
    curves = sorted(curves, key=lambda curve: curve.mean[-1])
    ends = [(curve.mean[-1] - low) / (high - low) for curve in curves]
    for curve, end, y in zip(curves, ends, separate(ends, 0.052), strict=True):
        is_flowgmm, colour = curve.method == "flowgmm", colours[curve.method]
        arrow = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1, "relpos": (0, 0.5)}
        axes.annotate(
            method_name(curve.method),
            (1.0, end),
            (1.035, y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=10 if is_flowgmm else 9,
            fontweight="bold" if is_flowgmm else "normal",
            color=colour,
            annotation_clip=False,
            arrowprops={**arrow, "color": colour},
        )


def separate(values: Sequence[float], distance: float) -> list[float]:
    """Move ascending values as little as possible until neighbours are `distance` apart.

    >>> separate([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    blocks: list[tuple[list[float], float]] = []  # values of a block, and its centre
    for value in values:
        block, centre = [value], value
        while blocks and centre - blocks[-1][1] < distance * (len(block) + len(blocks[-1][0])) / 2:
            block = [*blocks.pop()[0], *block]
            centre = sum(block) / len(block)
        blocks.append((block, centre))
    return [
        centre + distance * (index - (len(block) - 1) / 2)
        for block, centre in blocks
        for index in range(len(block))
    ]


def sweep_figure(
    combinations: Sequence[tuple[str, Sequence[float]]], *, title: str, subtitle: str = ""
) -> Figure:
    """Draw the accuracy of every seed as a dot, a line for each combination, the best first.

    A combination is its settings on one line and the accuracy of each seed.
    """
    rows = combinations[:MAX_COMBINATIONS]
    labels = [shorten(label, 70) for label, _ in rows]
    # letters of this size are about 1/14 inch wide
    figure = new_figure(5.2 + 0.075 * max(len(label) for label in labels), 1.7 + 0.29 * len(rows))
    axes = figure.subplots()
    for y, (_, accuracies) in enumerate(rows):
        _draw_combination(axes, y, accuracies, is_best=y == 0)
    axes.set_yticks(range(len(rows)), labels, fontsize=8.5)
    disable_math(*axes.get_yticklabels())
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("test accuracy: ◆ mean, ● each seed")
    style_axes(axes, grid="x")
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.spines["left"].set_visible(False)
    omitted = len(combinations) - len(rows)
    rest = f" · {omitted} more, all worse, not shown" if omitted else ""
    set_title(axes, title, f"{subtitle}{rest}")
    return figure


def _draw_combination(axes: Axes, y: int, accuracies: Sequence[float], *, is_best: bool) -> None:
    mean, colour = float(np.mean(accuracies)), ACCENT if is_best else GREY
    axes.axhline(y, color=FAINT, linewidth=0.5, zorder=0)
    axes.hlines(y, min(accuracies), max(accuracies), color=colour, alpha=0.45, linewidth=2)
    axes.plot(accuracies, [y] * len(accuracies), "o", color=colour, alpha=0.5, markersize=4.5, mew=0)
    axes.plot(mean, y, "D", color=colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8)
    axes.annotate(
        f"{mean:.4f}",
        (1, y),
        (6, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        fontweight="bold" if is_best else "normal",
        color=INK if is_best else GREY,
        annotation_clip=False,
    )


CURVE_SCHEMA, SWEEP_SCHEMA = "flowgmm/curve/1", "flowgmm/sweep/1"
TEST_RANKING_NOTE = (
    "sorted by test accuracy: the best of several settings looks better on these rows than it is; "
    "confirm a choice with other seeds, or choose by labelled held-out rows (data.split.val_labels=true)"
)
VALIDATION_RANKING_NOTE = "sorted by {} on labelled held-out rows, independent of test accuracy"


def write_curve(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `curve.csv`, `curve.json` and `curve.png`; return the value of the JSON without its rows."""
    groups = group_results(results)
    points = [{**group.settings, **group.to_dict()} for group in groups]
    for point in points:
        del point["settings"]
    labels = sorted({int(result.settings["labels"]) for result in results})
    value = _header(experiment, CURVE_SCHEMA, results) | {"labels": labels, "points": points}
    _write_tables(experiment, "curve", value, results)
    if groups:
        curves = [_method_curve(method, groups) for method in dict.fromkeys(group.method for group in groups)]
        seeds = sorted({result.seed for result in results})
        subtitle = f"seed {seeds[0]}"
        if len(seeds) > 1:
            subtitle = f"mean over {len(seeds)} seeds, band from minimum to maximum"
        title = f"{experiment.header['recipe']}: accuracy by number of labels"
        figure = curve_figure(curves, title=title, subtitle=subtitle)
        write_bytes(experiment.folder / "curve.png", png(figure))
    return value


def _method_curve(method: str, groups: Sequence[Group]) -> MethodCurve:
    by_labels = {
        int(group.settings["labels"]): group.metrics["accuracy"] for group in groups if group.method == method
    }
    labels = sorted(by_labels)
    accuracies = [by_labels[count] for count in labels]
    return MethodCurve(
        method,
        labels,
        [accuracy.mean for accuracy in accuracies],
        [accuracy.min for accuracy in accuracies],
        [accuracy.max for accuracy in accuracies],
    )


def write_sweep(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `sweep.csv`, `sweep.json` and `sweep.png`; return the value of the JSON without its rows."""
    groups, note = rank(group_results(results))
    combinations = [group.to_dict() for group in groups]
    value = _header(experiment, SWEEP_SCHEMA, results) | {"note": note, "combinations": combinations}
    _write_tables(experiment, "sweep", value, results)
    if groups:
        names = short_keys(list(groups[0].settings))
        rows = []
        for group in groups:
            members = [result for result in results if result.settings == group.settings]
            accuracies = [float(result.methods[FLOWGMM]["accuracy"]) for result in members]
            rows.append((describe_settings(group.settings, names), accuracies))
        seeds = len({result.seed for result in results})
        ranking = note.partition(":")[0].partition(",")[0]
        figure = sweep_figure(
            rows,
            title=f"{experiment.header['recipe']}: {len(groups):,} settings",
            subtitle=f"{seeds} seed{'s' if seeds > 1 else ''} · {ranking}",
        )
        write_bytes(experiment.folder / "sweep.png", png(figure))
    return value


def rank(groups: Sequence[Group]) -> tuple[list[Group], str]:
    """Sort the groups of flowgmm, the best first; return them with a note on the criterion.

    Labelled held-out rows decide if all groups have them, else test accuracy. Criteria without labels cannot
    be compared across settings, since settings change their scale.
    """
    groups = [group for group in groups if group.method == FLOWGMM]
    criteria = {group.criterion for group in groups}
    criterion = criteria.pop() if len(criteria) == 1 else None
    summaries = [group.criterion_summary for group in groups]
    if criterion is not None and criterion.startswith("val.") and all(summaries):
        sign = -1 if criterion == "val.accuracy" else 1
        scores = [sign * summary.mean for summary in summaries if summary]
        note = VALIDATION_RANKING_NOTE.format(criterion)
    else:
        scores = [-group.metrics["accuracy"].mean for group in groups]
        note = TEST_RANKING_NOTE
    order = sorted(range(len(groups)), key=scores.__getitem__)
    return [groups[index] for index in order], note


def describe_settings(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Write settings on one line, with short names of the keys."""
    return "  ".join(f"{names[key]}={value}" for key, value in settings.items())


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Map each dotted key to its shortest unambiguous end.

    >>> short_keys(["flow.hidden", "train.lr", "prior.lr"])
    {'flow.hidden': 'hidden', 'train.lr': 'train.lr', 'prior.lr': 'prior.lr'}
    """
    names = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        unique = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
        names[key] = next(unique, key)
    return names


def _header(experiment: Experiment, schema: str, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "schema": schema,
        **{key: experiment.header[key] for key in ("recipe", "overlays", "overrides")},
        "folder": str(experiment.folder),
        "seeds": sorted({result.seed for result in results}),
        "runs": len(results),
    }


def _write_tables(
    experiment: Experiment, name: str, value: Mapping[str, Any], results: Sequence[Result]
) -> None:
    rows = [row for result in results for row in result.rows()]
    write_text(experiment.folder / f"{name}.csv", to_csv(results))
    write_json(experiment.folder / f"{name}.json", {**value, "rows": rows})

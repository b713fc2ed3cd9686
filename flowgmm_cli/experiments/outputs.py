"""The files of an experiment: csv, JSON and a figure, each replaced as a whole after every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.results import FLOWGMM, Result, group_results, to_csv
from flowgmm_cli.files import write_bytes, write_json, write_text
from flowgmm_cli.formatting import method_name
from flowgmm_cli.report.figures import (
    ACCENT,
    FAINT,
    GREY,
    INK,
    annotate,
    figure_style,
    method_colours,
    new_figure,
    png,
    set_title,
)
from flowgmm_cli.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_COMBINATIONS = 60  # of more combinations the worst are not drawn


@figure_style()
def curve_figure(groups: Sequence[Mapping[str, Any]], *, title: str, subtitle: str = "") -> Figure:
    """Draw the mean accuracy of each method by number of labels, with its name at the right end of the line.

    Args:
        groups: groups of `group_results`, with the setting `labels`; bands go from minimum to maximum.
        title: a line above the figure.
        subtitle: a smaller line below it.
    """
    figure = new_figure(7.6, 4.9)
    axes = figure.subplots()
    curves: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for group in sorted(groups, key=lambda group: int(group["settings"]["labels"])):
        curves.setdefault(group["method"], []).append((int(group["settings"]["labels"]), group["accuracy"]))
    colours = method_colours(sorted(curves))
    style: dict[str, Any] = {"marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.8}
    for method, points in curves.items():
        alpha, width, size, order = (0.2, 2.6, 6, 4) if method == FLOWGMM else (0.07, 1.4, 4, 3)
        style |= {"color": colours[method], "linewidth": width, "markersize": size, "zorder": order}
        x = [labels for labels, _ in points]
        mean, low, high = ([accuracy[key] for _, accuracy in points] for key in ("mean", "min", "max"))
        axes.fill_between(x, low, high, color=style["color"], alpha=alpha, linewidth=0)
        axes.plot(x, mean, **style)
    ticks = sorted({int(group["settings"]["labels"]) for group in groups})
    labelled = ticks[:1]
    for tick in ticks[1:]:  # labels must not overlap on the logarithmic axis
        if np.log(tick / labelled[-1]) >= np.log(ticks[-1] / ticks[0]) / 14:
            labelled.append(tick)
    axes.set_xscale("log")
    axes.set_xticks(labelled, [f"{tick:,}" for tick in labelled])
    axes.minorticks_off()
    if len(ticks) > 1:
        margin = (ticks[-1] / ticks[0]) ** 0.04
        axes.set_xlim(ticks[0] / margin, ticks[-1] * margin)
    axes.set(xlabel="labelled rows", ylabel="test accuracy")
    axes.grid(axis="y")
    _write_names(axes, {method: points[-1][1]["mean"] for method, points in curves.items()}, colours)
    set_title(axes, title, subtitle)
    return figure


def _write_names(axes: Axes, ends: Mapping[str, float], colours: Mapping[str, str]) -> None:
    """Write the names of the methods beside the ends of their lines, without overlaps."""
    low, high = axes.get_ylim()
    methods = sorted(ends, key=ends.__getitem__)
    heights = [(ends[method] - low) / (high - low) for method in methods]
    style: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "axes fraction", "va": "center"}
    arrow = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 1, "shrinkB": 1, "relpos": (0, 0.5)}
    for method, height, y in zip(methods, heights, separate(heights, 0.052), strict=True):
        size, weight = (10, "bold") if method == FLOWGMM else (9, "normal")
        style |= {"fontsize": size, "fontweight": weight, "color": colours[method]}
        style["arrowprops"] = {**arrow, "color": style["color"]}
        axes.annotate(method_name(method), (1.0, height), (1.035, y), annotation_clip=False, **style)


def separate(values: Sequence[float], distance: float) -> list[float]:
    """Move ascending values as little as possible until neighbours are `distance` apart.

    >>> separate([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    shift = distance * np.arange(len(values))
    # the nearest values whose gaps are at least `distance` are ascending after the shift
    moved: list[float] = (isotonic_regression(np.array(values) - shift).x + shift).tolist()
    return moved


@figure_style()
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
        colour, ink, weight = (GREY, GREY, "normal") if y else (ACCENT, INK, "bold")
        mean = float(np.mean(accuracies))
        axes.axhline(y, color=FAINT, linewidth=0.5, zorder=0)
        axes.hlines(y, min(accuracies), max(accuracies), color=colour, alpha=0.45, linewidth=2)
        axes.plot(accuracies, [y] * len(accuracies), "o", color=colour, alpha=0.5, markersize=4.5, mew=0)
        axes.plot(mean, y, "D", color=colour, markersize=6.5, markeredgecolor="white", markeredgewidth=0.8)
        style = {"xycoords": ("axes fraction", "data"), "va": "center", "fontweight": weight}
        annotate(axes, f"{mean:.4f}", (1, y), (6, 0), color=ink, annotation_clip=False, **style)
    axes.set_yticks(range(len(rows)), labels, fontsize=8.5)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("test accuracy: ◆ mean, ● each seed")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.spines["left"].set_visible(False)
    omitted = len(combinations) - len(rows)
    rest = f" · {omitted} more, all worse, not shown" if omitted else ""
    set_title(axes, title, f"{subtitle}{rest}")
    return figure


CURVE_SCHEMA, SWEEP_SCHEMA = "flowgmm/curve/1", "flowgmm/sweep/1"
TEST_RANKING_NOTE = (
    "sorted by test accuracy: the best of several settings looks better on these rows than it is; "
    "confirm a choice with other seeds, or choose by labelled held-out rows (data.split.val_labels=true)"
)
VALIDATION_RANKING_NOTE = "sorted by {} on labelled held-out rows, independent of test accuracy"


def write_curve(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `curve.csv`, `curve.json` and `curve.png`; return the value of the JSON without its rows."""
    groups = group_results(results)
    points = [
        group["settings"] | {key: value for key, value in group.items() if key != "settings"}
        for group in groups
    ]
    labels = sorted({int(result.settings["labels"]) for result in results})
    value = _header(experiment, CURVE_SCHEMA, results) | {"labels": labels, "points": points}
    _write_tables(experiment, "curve", value, results)
    if groups:
        seeds = sorted({result.seed for result in results})
        subtitle = f"seed {seeds[0]}"
        if len(seeds) > 1:
            subtitle = f"mean over {len(seeds)} seeds, band from minimum to maximum"
        title = f"{experiment.header['recipe']}: accuracy by number of labels"
        figure = curve_figure(groups, title=title, subtitle=subtitle)
        write_bytes(experiment.folder / "curve.png", png(figure))
    return value


def write_sweep(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `sweep.csv`, `sweep.json` and `sweep.png`; return the value of the JSON without its rows."""
    groups, note = rank(group_results(results))
    value = _header(experiment, SWEEP_SCHEMA, results) | {"note": note, "combinations": groups}
    _write_tables(experiment, "sweep", value, results)
    if groups:
        names = short_keys(list(groups[0]["settings"]))
        rows = []
        for group in groups:
            members = [result for result in results if result.settings == group["settings"]]
            accuracies = [float(result.methods[FLOWGMM]["accuracy"]) for result in members]
            text = "  ".join(f"{names[key]}={value}" for key, value in group["settings"].items())
            rows.append((text, accuracies))
        seeds = len({result.seed for result in results})
        ranking = note.partition(":")[0].partition(",")[0]
        title = f"{experiment.header['recipe']}: {len(groups):,} settings"
        subtitle = f"{seeds} seed{'s' if seeds > 1 else ''} · {ranking}"
        write_bytes(experiment.folder / "sweep.png", png(sweep_figure(rows, title=title, subtitle=subtitle)))
    return value


def rank(groups: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Sort the groups of flowgmm, the best first; return them with a note on the criterion.

    Labelled held-out rows decide if all groups have them, else test accuracy. Criteria without labels cannot
    be compared across settings, since settings change their scale.
    """
    groups = [group for group in groups if group["method"] == FLOWGMM]
    criteria = {group["criterion"]["metric"] if group["criterion"] else None for group in groups}
    criterion = criteria.pop() if len(criteria) == 1 else None
    if criterion is not None and criterion.startswith("val."):
        sign = -1 if criterion == "val.accuracy" else 1
        note = VALIDATION_RANKING_NOTE.format(criterion)
        return sorted(groups, key=lambda group: sign * group["criterion"]["mean"]), note
    return sorted(groups, key=lambda group: -group["accuracy"]["mean"]), TEST_RANKING_NOTE


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

"""The files of an experiment: csv, JSON and a figure, each replaced as a whole after every run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import isotonic_regression

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.forecast import fit_forecast
from flowgmm_cli.experiments.results import FLOWGMM, Result, group_results, to_csv
from flowgmm_cli.files import write_bytes, write_json, write_text
from flowgmm_cli.formatting import method_name, pluralise
from flowgmm_cli.report.figures import (
    ACCENT,
    FAINT,
    GREY,
    INK,
    annotate,
    figure_style,
    method_colours,
    new_axes,
    png,
)
from flowgmm_cli.report.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUGGESTED = "flowgmm, suggested labels"
"""Name of the line of runs whose labelled rows were suggested."""
MAX_COMBINATIONS = 60  # of more combinations the worst are not drawn


@figure_style()
def curve_figure(groups: Sequence[Mapping[str, Any]], *, title: str, subtitle: str, measure: str) -> Figure:
    """Draw the mean accuracy of each method by number of labels, with its name at the right end of the line.

    Args:
        groups: groups of `group_results`, with the setting `labels`; bands go from minimum to maximum.
        title: a line above the figure.
        subtitle: a smaller line below it.
        measure: the name of the accuracy.
    """
    figure, axes = new_axes(7.6, 4.9, title, subtitle)
    curves: dict[str, list[tuple[int, Mapping[str, float]]]] = {}
    for group in sorted(groups, key=lambda group: int(group["settings"]["labels"])):
        name, settings = group["method"], group["settings"]
        if settings.get("choose") == "suggest":
            if name != FLOWGMM:  # the simple methods are drawn once
                continue
            name = SUGGESTED
        curves.setdefault(name, []).append((int(settings["labels"]), group["accuracy"]))
    colours = method_colours(sorted(curves))
    style: dict[str, Any] = {"marker": "o", "markeredgecolor": "white", "markeredgewidth": 0.8}
    for method, points in curves.items():
        is_own = method in (FLOWGMM, SUGGESTED)
        alpha, width, size, order = (0.2, 2.6, 6, 4) if is_own else (0.07, 1.4, 4, 3)
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
    axes.set(xlabel="labelled rows", ylabel=measure)
    axes.grid(axis="y")
    _write_names(axes, {method: points[-1][1]["mean"] for method, points in curves.items()}, colours)
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
    combinations: Sequence[tuple[str, Sequence[float]]], *, title: str, subtitle: str, measure: str
) -> Figure:
    """Draw the accuracy of every seed as a dot, a line for each combination, the best first.

    A combination is its settings on one line and the accuracy of each seed.
    """
    rows = combinations[:MAX_COMBINATIONS]
    labels = [shorten(label, 70) for label, _ in rows]
    if omitted := len(combinations) - len(rows):
        subtitle += f" · {omitted} more, all worse, not shown"
    # letters of this size are about 1/14 inch wide
    figure, axes = new_axes(5.2 + 0.075 * max(map(len, labels)), 1.7 + 0.29 * len(rows), title, subtitle)
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
    axes.set_xlabel(f"{measure}: ◆ mean, ● each seed")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0, labelsize=8.5)
    axes.spines["left"].set_visible(False)
    return figure


TEST_RANKING_NOTE = (
    "sorted by {}: the best of several settings looks better on these rows than it is; "
    "confirm a choice with other seeds, or choose by labelled held-out rows (data.split.val_labels=true)"
)
VALIDATION_RANKING_NOTE = "sorted by {} on labelled held-out rows, independent of {}"


def write_curve(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `curve.csv`, `curve.json` and `curve.png`; return the value of the JSON without its rows."""
    groups, figure = group_results(results), None
    choices = dict.fromkeys(result.settings.get("choose") for result in results)
    points = [
        {**group["settings"], **{key: group[key] for key in group if key != "settings"}} for group in groups
    ]
    if groups:
        seeds = len({result.seed for result in results})
        subtitle = f"mean over {seeds} seeds, band from minimum to maximum"
        if seeds == 1:
            subtitle = f"seed {results[0].seed}"
        title = f"{experiment.header['recipe']}: accuracy by number of labels"
        figure = curve_figure(groups, title=title, subtitle=subtitle, measure=measure_name(results))
    forecasts = []
    for choice in choices:
        accuracies: dict[int, dict[int, float]] = {}
        for result in results:
            if result.settings.get("choose") == choice:
                own = accuracies.setdefault(int(result.settings["labels"]), {})
                own[result.seed] = float(result.methods[FLOWGMM]["accuracy"])
        if (found := fit_forecast(accuracies)) is not None:
            forecasts.append({"choose": choice, **vars(found), "text": found.describe()})
    labels = sorted({int(result.settings["labels"]) for result in results})
    values = {"labels": labels, "points": points, "forecast": forecasts}
    return _write(experiment, "curve", results, values, figure)


def write_sweep(experiment: Experiment, results: Sequence[Result]) -> dict[str, Any]:
    """Write `sweep.csv`, `sweep.json` and `sweep.png`; return the value of the JSON without its rows."""
    measure, figure = measure_name(results), None
    groups, note = rank(group_results(results), measure)
    if groups:
        names = short_keys(list(groups[0]["settings"]))
        rows = []
        for group in groups:
            members = [result for result in results if result.settings == group["settings"]]
            accuracies = [float(result.methods[FLOWGMM]["accuracy"]) for result in members]
            text = "  ".join(f"{names[key]}={value}" for key, value in group["settings"].items())
            rows.append((text, accuracies))
        ranking = note.partition(":")[0].partition(",")[0]
        subtitle = f"{pluralise(len({result.seed for result in results}), 'seed')} · {ranking}"
        title = f"{experiment.header['recipe']}: {len(groups):,} settings"
        figure = sweep_figure(rows, title=title, subtitle=subtitle, measure=measure)
    return _write(experiment, "sweep", results, {"note": note, "combinations": groups}, figure)


def _write(
    experiment: Experiment,
    kind: str,
    results: Sequence[Result],
    values: dict[str, Any],
    figure: Figure | None,
) -> dict[str, Any]:
    value = {
        "schema": f"flowgmm/{kind}/1",
        **{key: experiment.header[key] for key in ("recipe", "overlays", "overrides")},
        "folder": str(experiment.folder),
        "seeds": sorted({result.seed for result in results}),
        "measure": measure_name(results),
        "runs": len(results),
        **values,
    }
    file = experiment.folder / kind
    write_text(file.with_suffix(".csv"), to_csv(results))
    write_json(file.with_suffix(".json"), {**value, "rows": [row for item in results for row in item.rows()]})
    if figure is not None:
        write_bytes(file.with_suffix(".png"), png(figure))
    return value


def measure_name(results: Iterable[Result]) -> str:
    """Name the accuracy of runs by their rows, such as `cross-fitted accuracy`."""
    splits = sorted({result.split for result in results}, reverse=True) or ["test"]
    return f"{' or '.join(splits).replace('_', '-')} accuracy"


def rank(groups: Sequence[dict[str, Any]], measure: str) -> tuple[list[dict[str, Any]], str]:
    """Sort the groups of flowgmm, the best first; return them with a note on the criterion.

    Labelled held-out rows decide if all groups have them, else the accuracy. Criteria without labels cannot
    be compared across settings, since settings change their scale.
    """
    groups = [group for group in groups if group["method"] == FLOWGMM]
    criteria = {group["criterion"]["metric"] if group["criterion"] else None for group in groups}
    criterion = criteria.pop() if len(criteria) == 1 else None
    if criterion is not None and criterion.startswith("val."):
        sign = -1 if criterion == "val.accuracy" else 1
        note = VALIDATION_RANKING_NOTE.format(criterion, measure)
        return sorted(groups, key=lambda group: sign * group["criterion"]["mean"]), note
    return sorted(groups, key=lambda group: -group["accuracy"]["mean"]), TEST_RANKING_NOTE.format(measure)


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

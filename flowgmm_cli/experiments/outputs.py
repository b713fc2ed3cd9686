"""The files of an experiment: csv, JSON and a figure, each replaced as a whole after every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.figures import MethodCurve, curve_figure, sweep_figure
from flowgmm_cli.experiments.results import FLOWGMM, Group, Result, group_results, to_csv
from flowgmm_cli.files import write_bytes, write_json, write_text
from flowgmm_cli.report.figures import png

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

"""The files of a study: csv, JSON and a figure, each replaced as a whole after every point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgmm_cli.experiments.figures import MethodCurve, curve_figure, sweep_figure
from flowgmm_cli.experiments.results import OURS, Group, Result, summarise, to_csv
from flowgmm_cli.experiments.study import Study
from flowgmm_cli.files import write_bytes, write_json, write_text
from flowgmm_cli.report.figures import png

CURVE, SWEEP = "flowgmm/curve/1", "flowgmm/sweep/1"
FLATTERS = (
    "sorted by test accuracy: the best of several settings looks better on these rows than it is; "
    "confirm a choice with other seeds, or choose by labelled held-out rows (data.split.val_labels=true)"
)
HONEST = "sorted by {} on labelled held-out rows; test accuracy had no say in it"


def write_curve(study: Study, results: Sequence[Result]) -> dict[str, Any]:
    """Write `curve.csv`, `curve.json` and `curve.png`; returns what the JSON holds."""
    groups = summarise(results)
    value = _value(study, CURVE, results) | {
        "labels": sorted({int(one.settings["labels"]) for one in results}),
        "points": [{**group.settings, **_without(group.to_dict())} for group in groups],
    }
    _write(study.folder, "curve", value, results)
    if groups:
        lines = [_line(method, groups) for method in dict.fromkeys(group.method for group in groups)]
        figure = curve_figure(
            lines, title=f"{study.header['recipe']}: accuracy by number of labels", subtitle=_seeds(results)
        )
        write_bytes(study.folder / "curve.png", png(figure))
    return value


def write_sweep(study: Study, results: Sequence[Result]) -> dict[str, Any]:
    """Write `sweep.csv`, `sweep.json` and `sweep.png`; returns what the JSON holds."""
    groups, note = ranked(summarise(results))
    value = _value(study, SWEEP, results) | {
        "note": note,
        "combinations": [group.to_dict() for group in groups],
    }
    _write(study.folder, "sweep", value, results)
    if groups:
        short = short_keys(list(groups[0].settings))
        entries = [(describe(group.settings, short), _accuracies(group, results)) for group in groups]
        seeds = len({one.seed for one in results})
        subtitle = f"{seeds} seed{'s' if seeds > 1 else ''} · {note.partition(':')[0].partition(';')[0]}"
        figure = sweep_figure(
            entries, title=f"{study.header['recipe']}: {len(groups):,} settings", subtitle=subtitle
        )
        write_bytes(study.folder / "sweep.png", png(figure))
    return value


def ranked(groups: Sequence[Group]) -> tuple[list[Group], str]:
    """Groups of flowgmm, the best first, and a note that says by what.

    Labelled held-out rows decide where all groups have them, else test accuracy.
    Criteria without labels say nothing across settings: each one changes what they measure.
    """
    ours = [group for group in groups if group.method == OURS]
    metrics = {group.criterion for group in ours}
    metric = next(iter(metrics)) if len(metrics) == 1 else None
    if metric is not None and metric.startswith("val.") and all(group.watched for group in ours):
        sign = -1 if metric == "val.accuracy" else 1
        return sorted(ours, key=lambda one: sign * one.watched.mean if one.watched else 0.0), HONEST.format(
            metric
        )
    return sorted(ours, key=lambda one: -one.metrics["accuracy"].mean), FLATTERS


def describe(settings: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Settings on one line, keys by their names."""
    return "  ".join(f"{names[key]}={value}" for key, value in settings.items())


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The shortest end of each dotted key that no other key ends in.

    >>> short_keys(["flow.hidden", "train.lr", "prior.lr"])
    {'flow.hidden': 'hidden', 'train.lr': 'train.lr', 'prior.lr': 'prior.lr'}
    """
    found = {}
    for key in keys:
        parts = key.split(".")
        ends = [".".join(parts[start:]) for start in range(len(parts) - 1, -1, -1)]
        alone = (end for end in ends if sum(f".{other}".endswith(f".{end}") for other in keys) == 1)
        found[key] = next(alone, key)
    return found


def _value(study: Study, schema: str, results: Sequence[Result]) -> dict[str, Any]:
    return {
        "schema": schema,
        "recipe": study.header["recipe"],
        "overlays": study.header["overlays"],
        "overrides": study.header["overrides"],
        "folder": str(study.folder),
        "seeds": sorted({one.seed for one in results}),
        "runs": len(results),
    }


def _write(folder: Path, name: str, value: Mapping[str, Any], results: Sequence[Result]) -> None:
    write_text(folder / f"{name}.csv", to_csv(results))
    write_json(folder / f"{name}.json", {**value, "rows": [row for one in results for row in one.rows()]})


def _line(method: str, groups: Sequence[Group]) -> MethodCurve:
    found = {int(one.settings["labels"]): one.metrics["accuracy"] for one in groups if one.method == method}
    spreads = [found[count] for count in sorted(found)]
    return MethodCurve(
        method,
        sorted(found),
        [spread.mean for spread in spreads],
        [spread.min for spread in spreads],
        [spread.max for spread in spreads],
    )


def _without(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in value.items() if key != "settings"}


def _accuracies(group: Group, results: Sequence[Result]) -> list[float]:
    return [float(one.methods[OURS]["accuracy"]) for one in results if one.settings == group.settings]


def _seeds(results: Sequence[Result]) -> str:
    seeds = sorted({one.seed for one in results})
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"mean over {len(seeds)} seeds, band from the least to the most"

"""Runs side by side: differences with their uncertainty, tables, and an HTML page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.evaluation.evaluation_file import load_predictions, match_rows
from flowgmm_cli.evaluation.intervals import (
    Difference,
    compare_accuracies,
    compare_independent_accuracies,
    compare_means,
)
from flowgmm_cli.files import write_text
from flowgmm_cli.formatting import format_number
from flowgmm_cli.recipe.node import format_path
from flowgmm_cli.recipe.yaml import read_yaml
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.learning_curves import METRICS as CURVES
from flowgmm_cli.report.learning_curves import curves_figure, read_history
from flowgmm_cli.report.page import Paragraph, Part, Section, Table, plot, render
from flowgmm_cli.report.text import shorten
from flowgmm_cli.runs import Run

SCHEMA = "flowgmm/compare/1"
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
    "density_nll": "-log p(x), nats",
    "bits_per_dim": "bits per pixel",
}
_INFO = (
    "recipe", "created", "seconds", "seed", "rows", "fingerprint", "overlays", "overrides", "calibration",
    "best", "epochs",
)  # fmt: skip
_BASIS = {
    "same": "Both were tested on the same {rows:,} rows; {only_first:,} only the first got right, "
    "{only_second:,} only the second",
    "some": "They have {rows:,} test rows in common and are compared on these alone; {only_first:,} only the "
    "first got right, {only_second:,} only the second",
    "other": "They were tested on different rows, so the difference is one of models and of rows",
    "unknown": "It is unknown if they were tested on the same rows (`flowgmm eval RUN` stores the prediction "
    "of each row), so the rows are treated as different ones",
}


@dataclass(frozen=True)
class RunDifference:
    """The difference of a run from the first."""

    # `same`; `some` are the same; `other` rows altogether; `unknown` if the runs did not store them
    test_rows: Literal["same", "some", "other", "unknown"]
    rows: int = 0  # number of common test rows; 0 if unknown
    # only_first, only_second: number of common rows that only the one or the other predicted right
    only_first: int = 0
    only_second: int = 0
    # accuracy, nll: second minus first; None without results. Paired if `test_rows` is `same` or
    # `some`, and then of the common rows alone.
    accuracy: Difference | None = None
    nll: Difference | None = None

    @property
    def summary(self) -> str:
        """The difference in accuracy, its basis and its significance, in a sentence or two."""
        if self.accuracy is None:
            return "At least one of the two has no results, so they cannot be compared."
        verdict = "is larger than expected by chance" if self.accuracy.significant else "may be chance"
        if self.accuracy.p_value is not None:
            verdict += f" (McNemar's exact test: p = {self.accuracy.p_value:.2g})"
        return f"{_BASIS[self.test_rows].format_map(vars(self))}. The difference in accuracy {verdict}."


@dataclass(frozen=True)
class Comparison:
    """Two or more runs, and the differences of the others from the first."""

    runs: Sequence[Run]
    facts: Sequence[Mapping[str, Any]]  # about each run: status, data, results; plain values for JSON
    differences: Sequence[RunDifference]
    settings: Mapping[str, Sequence[Any]]  # that differ: `section.key` -> value of each run, None without
    versions: Mapping[str, Sequence[Any]]  # that differ, by package

    @property
    def names(self) -> list[str]:
        """Paths of the runs without the folders that they share."""
        paths = [run.path.absolute() for run in self.runs]
        shared = os.path.commonpath(paths)
        return [str(path.relative_to(shared)) for path in paths]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `flowgmm runs compare --json`."""
        first, *others = (str(run.path) for run in self.runs)
        return {
            "schema": SCHEMA,
            "runs": self.facts,
            "differences": [
                {"run": path, "against": first, **asdict(difference)}
                for path, difference in zip(others, self.differences, strict=True)
            ],
            "settings": self.settings,
            "versions": self.versions,
        }

    def tables(self) -> dict[str, Table]:
        """Return the tables of the page and of the command, by the id of their section."""
        first, *others = self.names
        measures = ["accuracy", "95 % interval", "NLL", "95 % interval of NLL"]
        differences = []
        for name, run in zip(others, self.differences, strict=True):
            pairs = [
                (f"{item.difference:+.4f}", f"{item.low:+.4f} to {item.high:+.4f}") if item else ("-", "-")
                for item in (run.accuracy, run.nll)
            ]
            differences.append([name, *pairs[0], *pairs[1]])
        counts = [run["n"] and f"{run['n']:,} {run['split'].replace('_', '-')}" for run in self.facts]
        results = {"rows": counts} | {
            name: [_format_metric(run, metric) for run in self.facts] for metric, name in METRICS.items()
        }
        if "-" in results["bits per pixel"]:
            del results["bits per pixel"]
        properties = [_list_properties(run) for run in self.facts]

        def table(heading: str, values: Mapping[str, Sequence[Any]], caption: str = "") -> Table:
            lines = [
                [key, *("-" if cell is None else str(cell) for cell in row)] for key, row in values.items()
            ]
            return Table([heading, first, *others], lines, caption)

        return {
            "results": table(
                "",
                results,
                "95 % intervals in brackets. Higher is better for accuracy, balanced accuracy and F1, lower "
                "for the others.",
            ),
            "differences": Table(
                [f"difference from {first}", *measures],
                differences,
                "Chance alone rarely makes a difference whose interval excludes 0. The best of many runs "
                "looks better on these test rows than it is.",
                right=measures,
            ),
            "facts": table("", {key: [run[key] for run in properties] for key in properties[0]}),
            "settings": table("setting", self.settings),
            "versions": table("version", self.versions),
        }


def _format_metric(run: Mapping[str, Any], metric: str) -> str:
    if run["metrics"] is None or run["metrics"][metric] is None:
        return "-"
    interval = run["intervals"].get(metric)
    limits = f" ({interval['low']:.4f} to {interval['high']:.4f})" if interval else ""
    return f"{run['metrics'][metric]:.4f}{limits}"


def _list_properties(run: Mapping[str, Any]) -> dict[str, Any]:
    rows, temperature = run["rows"] or {}, (run["calibration"] or {}).get("temperature")
    counts = {"training rows": "train", "labelled": "labelled", "test rows": "test"}
    return {
        "status": run["status"],
        "recipe": run["recipe"],
        **{name: f"{rows[key]:,}" if rows.get(key) is not None else None for name, key in counts.items()},
        "data (fingerprint)": str(run["fingerprint"] or "-")[:12],
        "seed": run["seed"],
        "members": run["members"] or None,
        "temperature": f"{temperature:.2f}" if isinstance(temperature, float) else None,
        "epochs": format_number(run["epochs"]) if run["epochs"] is not None else None,
        "seconds": f"{float(run['seconds'] or 0):.0f}",
        "started": str(run["created"] or "")[:16].replace("T", " "),
    }


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs with the first of them.

    Raises:
        RunError: a run cannot be read.
    """
    contexts = [ReportContext(run, DataContext()) for run in runs]
    return Comparison(
        runs,
        [_describe_run(context) for context in contexts],
        [_subtract(contexts[0], context) for context in contexts[1:]],
        _select_differing([_read_settings(run) for run in runs]),
        _select_differing([context.info.get("versions") or {} for context in contexts]),
    )


def _describe_run(context: ReportContext) -> dict[str, Any]:
    evaluation = context.evaluation
    metrics = evaluation.classification if evaluation else None
    return {
        "run": str(context.run.path),
        "status": context.status,
        **{key: context.info.get(key) for key in _INFO},
        "members": len(context.info.get("members") or ()),
        "split": evaluation.split if evaluation else None,
        "n": metrics.n if metrics else None,
        "metrics": evaluation.metrics() if evaluation else None,
        "intervals": {k: asdict(v) for k, v in metrics.intervals.items()} if metrics else None,
    }


def _read_settings(run: Run) -> dict[str, Any]:
    """Return the resolved recipe as `section.key` -> value; indices of lists are keys too."""
    file = run.path / "resolved.yaml"
    try:
        root = read_yaml(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        hint = "`flowgmm runs list` shows the runs"
        raise RunError(f"run {run.path} is damaged: {error}", hint=hint) from error
    nodes = ((format_path(path), node) for path, node in root.walk())
    return {
        key: node.plain() for key, node in nodes if not (node.value and isinstance(node.value, dict | list))
    }


def _select_differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    rows = {key: [mapping.get(key) for mapping in values] for mapping in values for key in mapping}
    # 1, 1.0 and True are different settings
    return {key: row for key, row in rows.items() if len({(type(value), str(value)) for value in row}) > 1}


def _subtract(*contexts: ReportContext) -> RunDifference:
    results = [context.evaluation for context in contexts if context.evaluation]
    if len(results) < 2:
        return RunDifference("unknown")
    metrics = [result.classification for result in results]
    counts = [count for item in metrics for count in (round(item.accuracy * item.n), item.n)]
    unpaired = compare_independent_accuracies(*counts)
    pairs = zip(contexts, results, strict=True)
    first, second = (load_predictions(context.run, result.split) for context, result in pairs)
    if first is None or second is None:
        return RunDifference("unknown", accuracy=unpaired)
    left, right = match_rows(first, second)
    if len(left) < 2:
        return RunDifference("other", accuracy=unpaired)
    first_correct, second_correct = first.correct[left], second.correct[right]
    return RunDifference(
        "same" if len(left) == len(first) == len(second) else "some",
        len(left),
        int((first_correct & ~second_correct).sum()),
        int((~first_correct & second_correct).sum()),
        compare_accuracies(first_correct, second_correct),
        compare_means(-first.log_probability[left], -second.log_probability[right]),
    )


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page. Raises `OSError` if it cannot be written."""
    names, tables = comparison.names, comparison.tables()
    differences: list[Part] = [Paragraph(f"All differences are from {names[0]}.")]
    for name, difference in zip(names[1:], comparison.differences, strict=True):
        differences.append(Paragraph(f"{name}: {difference.summary}"))

    def section(key: str, title: str, *parts: Part) -> Section:
        table = tables[key]
        return Section(key, title, [*parts, table if table.rows else Paragraph(f"All {key} are the same.")])

    plots = []
    histories = {
        shorten(name, 60): read_history(run.metrics) for name, run in zip(names, comparison.runs, strict=True)
    }
    for key, metric in CURVES.items():
        lines = {name: history[key] for name, history in histories.items() if key in history}
        if lines:
            figure = curves_figure(lines, title=metric.title)
            plots.append(plot(figure, name=f"curve-{key.replace('.', '-')}", caption=metric.caption))
    sections = [
        section("results", "Results"),
        section("differences", "Differences", *differences),
        Section("curves", "Learning curves", plots, "" if plots else "No run has logged anything."),
        section("settings", "Settings that differ"),
        section("facts", "Data and time"),
        section("versions", "Versions that differ"),
    ]
    subtitle = " · ".join(str(run.path) for run in comparison.runs)
    write_text(path, render(title=f"{len(names)} runs compared", subtitle=subtitle, sections=sections))

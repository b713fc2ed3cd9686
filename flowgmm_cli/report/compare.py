"""Runs side by side: differences with their uncertainty, tables, and an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.evaluation.predictions import (
    Difference,
    StoredPredictions,
    compare_accuracies,
    compare_independent_accuracies,
    compare_means,
    match_rows,
)
from flowgmm_cli.files import write_text
from flowgmm_cli.recipe.yaml import read_yaml
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.learning_curves import METRICS as CURVES
from flowgmm_cli.report.learning_curves import curves_figure, read_history
from flowgmm_cli.report.page import Paragraph, Part, Section, Table, Unavailable, plot, render
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
    "best",
)  # fmt: skip
_BASIS = {
    "same": "Both were tested on the same {rows:,} rows",
    "some": "They have {rows:,} test rows in common and are compared on these alone",
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
            return "At least one of the two has no results on test rows, so they cannot be compared."
        basis = _BASIS[self.test_rows].format(rows=self.rows)
        if self.test_rows in ("same", "some"):
            basis += f"; {self.only_first:,} only the first got right, {self.only_second:,} only the second"
        verdict = "is larger than expected by chance" if self.accuracy.significant else "may be chance"
        if self.accuracy.p_value is not None:
            verdict += f" (McNemar's exact test: p = {self.accuracy.p_value:.2g})"
        return f"{basis}. The difference in accuracy {verdict}."


@dataclass(frozen=True)
class Comparison:
    """Two or more runs, and the differences of the others from the first."""

    runs: tuple[ReportContext, ...]
    differences: tuple[RunDifference, ...]
    settings: Mapping[str, Sequence[Any]]  # that differ: `section.key` -> value of each run, None without
    versions: Mapping[str, Sequence[Any]]  # that differ, by package

    @property
    def names(self) -> list[str]:
        """Paths of the runs without shared folders, or the whole paths if that is ambiguous."""
        paths = [run.run.path.parts for run in self.runs]
        shared = 0
        while (
            all(len(parts) > shared + 1 for parts in paths) and len({parts[shared] for parts in paths}) == 1
        ):
            shared += 1
        names = ["/".join(parts[shared:]) for parts in paths]
        return names if len(set(names)) == len(names) else [str(run.run.path) for run in self.runs]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `flowgmm runs compare --json`."""
        paths = [str(run.run.path) for run in self.runs]
        runs = []
        for path, run in zip(paths, self.runs, strict=True):
            evaluation = run.evaluation
            metrics = evaluation.classification if evaluation else None
            runs.append(
                {
                    "run": path,
                    "status": run.status,
                    **{key: run.info.get(key) for key in _INFO},
                    "n": metrics.n if metrics else None,
                    "metrics": evaluation.metrics() if evaluation else None,
                    "intervals": {k: asdict(v) for k, v in metrics.intervals.items()} if metrics else None,
                }
            )
        differences = []
        for path, difference in zip(paths[1:], self.differences, strict=True):
            values = {
                key: asdict(value) if isinstance(value, Difference) else value
                for key, value in vars(difference).items()
            }
            differences.append({"run": path, "against": paths[0], **values})
        return {
            "schema": SCHEMA,
            "runs": runs,
            "differences": differences,
            "settings": self.settings,
            "versions": self.versions,
        }

    def tables(self) -> dict[str, Table]:
        """Return the tables of the page and of the command, by the id of their section."""
        names = self.names
        columns = ["accuracy", "95 % interval", "NLL", "95 % interval of NLL"]
        rows = []
        for name, run in zip(names[1:], self.differences, strict=True):
            cells = []
            for item in (run.accuracy, run.nll):
                limits = f"{item.low:+.4f} to {item.high:+.4f}" if item else "-"
                cells += [f"{item.difference:+.4f}" if item else "-", limits]
            rows.append([name, *cells])
        facts = [_list_facts(run) for run in self.runs]
        return {
            "results": Table(
                ["", *names],
                _result_rows(self.runs),
                "95 % intervals in brackets. Higher is better for accuracy, balanced accuracy and F1, lower "
                "for the others.",
            ),
            "differences": Table(
                [f"difference from {names[0]}", *columns],
                rows,
                "Chance alone rarely makes a difference whose interval excludes 0. The best of many runs "
                "looks better on these test rows than it is.",
                right=columns,
            ),
            "facts": Table(["", *names], _rows({key: [run[key] for run in facts] for key in facts[0]})),
            "settings": Table(["setting", *names], _rows(self.settings)),
            "versions": Table(["version", *names], _rows(self.versions)),
        }


def _rows(values: Mapping[str, Sequence[Any]]) -> list[list[str]]:
    """Return a line for each key: the key, then the value of each run."""
    return [[key, *("-" if value is None else str(value) for value in row)] for key, row in values.items()]


def _result_rows(runs: Sequence[ReportContext]) -> list[list[str]]:
    """Return lines of a table: metric, then its value for each run with an interval."""
    evaluations = [run.evaluation for run in runs]
    bits = [evaluation.bits_per_dim for evaluation in evaluations if evaluation]
    rows = []
    for metric, name in METRICS.items():
        if metric == "bits_per_dim" and (not bits or None in bits):
            continue
        cells = []
        for evaluation in evaluations:
            value = evaluation.metrics()[metric] if evaluation else None
            interval = evaluation.classification.intervals.get(metric) if evaluation else None
            limits = f" ({interval.low:.4f} to {interval.high:.4f})" if interval else ""
            cells.append("-" if value is None else f"{value:.4f}{limits}")
        rows.append([name, *cells])
    return rows


def _list_facts(run: ReportContext) -> dict[str, Any]:
    info = run.info
    rows, temperature = info.get("rows") or {}, (info.get("calibration") or {}).get("temperature")
    counts = {"training rows": "train", "labelled": "labelled", "test rows": "test"}
    return {
        "status": run.status,
        "recipe": info.get("recipe"),
        **{name: f"{rows[key]:,}" if rows.get(key) is not None else None for name, key in counts.items()},
        "data (fingerprint)": str(info.get("fingerprint") or "-")[:12],
        "seed": info.get("seed"),
        "members": len(info.get("members") or ()) or None,
        "temperature": f"{temperature:.2f}" if isinstance(temperature, float) else None,
        "epochs": info.get("epochs"),
        "seconds": f"{float(info.get('seconds') or 0):.0f}",
        "started": str(info.get("created", ""))[:16].replace("T", " "),
    }


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs with the first of them.

    Raises:
        RunError: a run cannot be read.
    """
    contexts = tuple(ReportContext(run, DataContext()) for run in runs)
    predictions = [StoredPredictions.load(run.path / "eval" / "test.npz") for run in runs]
    pairs = zip(contexts[1:], predictions[1:], strict=True)
    return Comparison(
        contexts,
        tuple(_subtract((contexts[0], predictions[0]), other) for other in pairs),
        _select_differing([_read_settings(run) for run in runs]),
        _select_differing([context.info.get("versions") or {} for context in contexts]),
    )


def _read_settings(run: Run) -> dict[str, Any]:
    file = run.path / "resolved.yaml"
    try:
        return flatten(read_yaml(file.read_text(encoding="utf-8"), str(file)).plain())
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise RunError(
            f"run {run.path} is damaged: {error}", hint="`flowgmm runs list` shows the runs"
        ) from error


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to `section.key` -> value; indices of lists are keys too.

    >>> flatten({"flow": {"use": "realnvp"}, "views": [{"use": "noise"}], "seeds": []})
    {'flow.use': 'realnvp', 'views.0.use': 'noise', 'seeds': []}
    """
    items = (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    )
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat or {prefix: value}


def _select_differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for mapping in values for key in mapping)
    rows = {key: [mapping.get(key) for mapping in values] for key in keys}
    # 1, 1.0 and True are different settings
    return {key: row for key, row in rows.items() if len({(type(value), str(value)) for value in row}) > 1}


def _subtract(*runs: tuple[ReportContext, StoredPredictions | None]) -> RunDifference:
    """Subtract the first of two runs from the second."""
    (first, first_rows), (second, second_rows) = runs
    if first.evaluation is None or second.evaluation is None:
        return RunDifference("unknown")
    metrics = (first.evaluation.classification, second.evaluation.classification)
    counts = [count for item in metrics for count in (round(item.accuracy * item.n), item.n)]
    unpaired = compare_independent_accuracies(*counts)
    if first_rows is None or second_rows is None:
        return RunDifference("unknown", accuracy=unpaired)
    left, right = match_rows(first_rows, second_rows)
    if len(left) < 2:
        return RunDifference("other", accuracy=unpaired)
    first_correct, second_correct = first_rows.correct[left], second_rows.correct[right]
    return RunDifference(
        "same" if len(left) == len(first_rows) == len(second_rows) else "some",
        len(left),
        int((first_correct & ~second_correct).sum()),
        int((~first_correct & second_correct).sum()),
        compare_accuracies(first_correct, second_correct),
        compare_means(-first_rows.log_probability[left], -second_rows.log_probability[right]),
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

    sections = [
        section("results", "Results on test rows"),
        section("differences", "Differences", *differences),
        _curves_section(comparison),
        section("settings", "Settings that differ"),
        section("facts", "Data and time"),
        section("versions", "Versions that differ"),
    ]
    subtitle = " · ".join(str(run.run.path) for run in comparison.runs)
    write_text(path, render(title=f"{len(names)} runs compared", subtitle=subtitle, sections=sections))


def _curves_section(comparison: Comparison) -> Section | Unavailable:
    parts = []
    histories = [read_history(run.run.metrics) for run in comparison.runs]
    for key, metric in CURVES.items():
        named = zip(comparison.names, histories, strict=True)
        lines = {shorten(name, 60): history[key] for name, history in named if key in history}
        if lines:
            figure = curves_figure(lines, title=metric.title)
            parts.append(plot(figure, name=f"curve-{key.replace('.', '-')}", caption=metric.caption))
    if not parts:
        return Unavailable("curves", "Learning curves", "No run has logged anything.")
    return Section("curves", "Learning curves", parts)

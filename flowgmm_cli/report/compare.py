"""Runs side by side: differences with their uncertainty, tables, and an HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from flowgmm_cli.errors import RecipeError, RunError
from flowgmm_cli.evaluation.metrics import Evaluation
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
from flowgmm_cli.report.context import read_evaluation
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.learning_curves import METRICS as MONITORED
from flowgmm_cli.report.learning_curves import overlay_figure, read_history
from flowgmm_cli.report.page import Paragraph, Part, Section, Table, Unavailable, plot, render
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
TestRows = Literal["same", "some", "other", "unknown"]


@dataclass(frozen=True)
class ComparedRun:
    """A run of a comparison."""

    run: Run
    info: Mapping[str, Any]  # `run.json`
    status: str  # see `Run.status`
    evaluation: Evaluation | None  # results on its test rows; None without test rows
    predictions: StoredPredictions | None  # of single test rows; None if they were not stored
    settings: Mapping[str, Any]  # the resolved recipe as `section.key` -> value

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        keys = (
            "recipe", "created", "seconds", "seed", "rows", "fingerprint", "overlays", "overrides",
            "calibration", "best",
        )  # fmt: skip
        evaluation = self.evaluation
        metrics = evaluation.classification if evaluation else None
        return {
            "run": str(self.run.path),
            "status": self.status,
            **{key: self.info.get(key) for key in keys},
            "n": metrics.n if metrics else None,
            "metrics": evaluation.metrics() if evaluation else None,
            "intervals": {k: asdict(v) for k, v in metrics.intervals.items()} if metrics else None,
        }


@dataclass(frozen=True)
class RunDifference:
    """The difference of a run from the first."""

    # `same`; `some` are the same; `other` rows altogether; `unknown` if the runs did not store them
    test_rows: TestRows
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
        basis = {
            "same": f"Both were tested on the same {self.rows:,} rows",
            "some": f"They have {self.rows:,} test rows in common and are compared on these alone",
            "other": "They were tested on different rows, so the difference is one of models and of rows",
            "unknown": "It is unknown if they were tested on the same rows (`flowgmm eval RUN` stores the "
            "prediction of each row), so the rows are treated as different ones",
        }[self.test_rows]
        details = ""
        if self.test_rows in ("same", "some"):
            details = f"; {self.only_first:,} only the first got right, {self.only_second:,} only the second"
        verdict = "is larger than expected by chance" if self.accuracy.significant else "may be chance"
        test = ""
        if self.accuracy.p_value is not None:
            test = f" (McNemar's exact test: p = {self.accuracy.p_value:.2g})"
        return f"{basis}{details}. The difference in accuracy {verdict}{test}."

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            **vars(self),
            "accuracy": asdict(self.accuracy) if self.accuracy else None,
            "nll": asdict(self.nll) if self.nll else None,
        }


@dataclass(frozen=True)
class Comparison:
    """Two or more runs, and the differences of the others from the first."""

    runs: tuple[ComparedRun, ...]
    differences: tuple[RunDifference, ...]

    @property
    def settings(self) -> dict[str, list[Any]]:
        """Settings that differ: key -> value of each run, None for a run without the key."""
        return _select_differing([run.settings for run in self.runs])

    @property
    def versions(self) -> dict[str, list[Any]]:
        """Versions that differ, likewise."""
        return _select_differing([run.info.get("versions") or {} for run in self.runs])

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object of `flowgmm runs compare --json`."""
        first = str(self.runs[0].run.path)
        return {
            "schema": SCHEMA,
            "runs": [run.to_dict() for run in self.runs],
            "differences": [
                {"run": str(run.run.path), "against": first, **difference.to_dict()}
                for run, difference in zip(self.runs[1:], self.differences, strict=True)
            ],
            "settings": self.settings,
            "versions": self.versions,
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Compare runs with the first of them.

    Raises:
        RunError: a run cannot be read.
    """
    first, *others = (_read(run) for run in runs)
    return Comparison((first, *others), tuple(_subtract(first, other) for other in others))


def _read(run: Run) -> ComparedRun:
    file = run.path / "resolved.yaml"
    try:
        settings = read_yaml(file.read_text(encoding="utf-8"), str(file)).plain()
    except (OSError, UnicodeDecodeError, RecipeError) as error:
        raise RunError(
            f"run {run.path} is damaged: {error}", hint="`flowgmm runs list` shows the runs"
        ) from error
    predictions = StoredPredictions.load(run.path / "eval" / "test.npz")
    return ComparedRun(run, run.info(), run.status(), read_evaluation(run), predictions, flatten(settings))


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Flatten nested values to `section.key` -> value; indices of lists are keys too.

    >>> flatten({"flow": {"use": "realnvp"}, "views": [{"use": "noise"}], "seeds": []})
    {'flow.use': 'realnvp', 'views.0.use': 'noise', 'seeds': []}
    """
    items: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    if not items:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat |= flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _subtract(first: ComparedRun, second: ComparedRun) -> RunDifference:
    if first.evaluation is None or second.evaluation is None:
        return RunDifference("unknown")
    metrics = (first.evaluation.classification, second.evaluation.classification)
    counts = [count for item in metrics for count in (round(item.accuracy * item.n), item.n)]
    unpaired = compare_independent_accuracies(*counts)
    if first.predictions is None or second.predictions is None:
        return RunDifference("unknown", accuracy=unpaired)
    left, right = match_rows(first.predictions, second.predictions)
    if len(left) < 2:
        return RunDifference("other", accuracy=unpaired)
    first_correct, second_correct = first.predictions.correct[left], second.predictions.correct[right]
    same = len(left) == len(first.predictions) == len(second.predictions)
    return RunDifference(
        "same" if same else "some",
        len(left),
        int((first_correct & ~second_correct).sum()),
        int((~first_correct & second_correct).sum()),
        compare_accuracies(first_correct, second_correct),
        compare_means(-first.predictions.log_probability[left], -second.predictions.log_probability[right]),
    )


def _select_differing(values: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for mapping in values for key in mapping)
    rows = {key: [mapping.get(key) for mapping in values] for key in keys}
    # 1, 1.0 and True are different settings
    return {key: row for key, row in rows.items() if len({(type(value), str(value)) for value in row}) > 1}


Row = Sequence[Any]
DIFFERENCE_COLUMNS = ["accuracy", "95 % interval", "NLL", "95 % interval of NLL"]


def short_names(comparison: Comparison) -> list[str]:
    """Name each run by its path without shared folders, or by the whole path if that is ambiguous."""
    paths = [run.run.path.parts for run in comparison.runs]
    shared = 0
    while all(len(parts) > shared + 1 for parts in paths) and len({parts[shared] for parts in paths}) == 1:
        shared += 1
    names = ["/".join(parts[shared:]) for parts in paths]
    return names if len(set(names)) == len(names) else [str(run.run.path) for run in comparison.runs]


def result_rows(comparison: Comparison) -> list[Row]:
    """Return lines of a table: metric, then its value for each run with an interval."""
    evaluations = [run.evaluation for run in comparison.runs]
    tested = [evaluation for evaluation in evaluations if evaluation]
    rows: list[Row] = []
    for metric, name in METRICS.items():
        if metric == "bits_per_dim" and (not tested or any(e.bits_per_dim is None for e in tested)):
            continue
        cells = []
        for evaluation in evaluations:
            value = evaluation.metrics()[metric] if evaluation else None
            interval = evaluation.classification.intervals.get(metric) if evaluation else None
            limits = f" ({interval.low:.4f} to {interval.high:.4f})" if interval else ""
            cells.append("-" if value is None else f"{value:.4f}{limits}")
        rows.append([name, *cells])
    return rows


def fact_rows(comparison: Comparison) -> list[Row]:
    """Return lines on data and time: name, then the value for each run."""
    facts = [_list_facts(run.info) for run in comparison.runs]
    return [
        ["status", *(run.status for run in comparison.runs)],
        *setting_rows({name: [values[name] for values in facts] for name in facts[0]}),
    ]


def _list_facts(info: Mapping[str, Any]) -> dict[str, Any]:
    rows, temperature = info.get("rows") or {}, (info.get("calibration") or {}).get("temperature")

    def count(name: str) -> str | None:
        return f"{rows[name]:,}" if rows.get(name) is not None else None

    return {
        "recipe": info.get("recipe"),
        "training rows": count("train"),
        "labelled": count("labelled"),
        "test rows": count("test"),
        "data (fingerprint)": str(info.get("fingerprint") or "-")[:12],
        "seed": info.get("seed"),
        "members": len(info.get("members") or ()) or None,
        "temperature": f"{temperature:.2f}" if isinstance(temperature, float) else None,
        "epochs": info.get("epochs"),
        "seconds": f"{float(info.get('seconds') or 0):.0f}",
        "started": str(info.get("created", ""))[:16].replace("T", " "),
    }


def difference_rows(comparison: Comparison, names: Sequence[str]) -> list[Row]:
    """Return lines of the differences from the first run: run, accuracy, interval, NLL, interval."""
    rows: list[Row] = []
    for name, run in zip(names[1:], comparison.differences, strict=True):
        cells: list[str] = []
        for item in (run.accuracy, run.nll):
            cells += (
                [f"{item.difference:+.4f}", f"{item.low:+.4f} to {item.high:+.4f}"] if item else ["-", "-"]
            )
        rows.append([name, *cells])
    return rows


def setting_rows(values: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Return a line for each key: the key, then the value of each run."""
    return [[key, *("-" if value is None else str(value) for value in row)] for key, row in values.items()]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page. Raises `OSError` if it cannot be written."""
    names = short_names(comparison)
    columns = ["", *names]

    def differing(key: str, values: Mapping[str, Sequence[Any]]) -> Section:
        part = Table(columns, setting_rows(values)) if values else Paragraph(f"All {key} are the same.")
        return Section(key, f"{key.capitalize()} that differ", [part])

    differences: list[Part] = [Paragraph(f"All differences are from {names[0]}.")]
    for name, difference in zip(names[1:], comparison.differences, strict=True):
        differences.append(Paragraph(f"{name}: {difference.summary}"))
    caption = (
        "Chance alone rarely makes a difference whose interval excludes 0. The best of many runs looks "
        "better on these test rows than it is."
    )
    rows = difference_rows(comparison, names)
    differences.append(Table(["run", *DIFFERENCE_COLUMNS], rows, caption, right=DIFFERENCE_COLUMNS))
    caption = (
        "95 % intervals in brackets. Higher is better for accuracy, balanced accuracy and F1, lower for the "
        "others."
    )
    sections = [
        Section("results", "Results on test rows", [Table(columns, result_rows(comparison), caption)]),
        Section("differences", "Differences", differences),
        _curves_section(comparison, names),
        differing("settings", comparison.settings),
        Section("facts", "Data and time", [Table(columns, fact_rows(comparison))]),
        differing("versions", comparison.versions),
    ]
    subtitle = " · ".join(str(run.run.path) for run in comparison.runs)
    write_text(path, render(title=f"{len(names)} runs compared", subtitle=subtitle, sections=sections))


def _curves_section(comparison: Comparison, names: Sequence[str]) -> Section | Unavailable:
    loss = (
        "Training loss",
        "Runs with other terms or weights have other losses: compare their shape, not their height.",
    )
    curves = {"loss": loss, **{name: (metric.title, metric.caption) for name, metric in MONITORED.items()}}
    labels = [shorten(name, 60) for name in names]
    histories = dict(zip(labels, (read_history(run.run.metrics) for run in comparison.runs), strict=True))
    parts = []
    for metric, (title, caption) in curves.items():
        lines = {name: history[metric] for name, history in histories.items() if metric in history}
        if lines:
            name = f"curve-{metric.replace('.', '-')}"
            parts.append(plot(overlay_figure(lines, title=title), name=name, caption=caption))
    if not parts:
        return Unavailable("curves", "Learning curves", "No run has logged anything.")
    return Section("curves", "Learning curves", parts)

"""The tables of a comparison, and its HTML page with overlaid learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgmm_cli.files import write_text
from flowgmm_cli.report.compare import METRICS, Comparison
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.learning_curves import METRICS as MONITORED
from flowgmm_cli.report.learning_curves import overlay_figure, read_history
from flowgmm_cli.report.page import Paragraph, Part, Section, Table, Unavailable, plot, render

Row = Sequence[Any]
_METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
    "density_nll": "-log p(x), nats",
    "bits_per_dim": "bits per pixel",
}
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
    for metric in METRICS:
        if metric == "bits_per_dim" and (not tested or any(e.bits_per_dim is None for e in tested)):
            continue
        cells = []
        for evaluation in evaluations:
            value = evaluation.metrics()[metric] if evaluation else None
            interval = evaluation.classification.intervals.get(metric) if evaluation else None
            limits = f" ({interval.low:.4f} to {interval.high:.4f})" if interval else ""
            cells.append("-" if value is None else f"{value:.4f}{limits}")
        rows.append([_METRIC_NAMES.get(metric, metric), *cells])
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
            cells += [f"{item.value:+.4f}", f"{item.low:+.4f} to {item.high:+.4f}"] if item else ["-", "-"]
        rows.append([name, *cells])
    return rows


def setting_rows(values: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Return a line for each key: the key, then the value of each run."""
    return [[key, *("-" if value is None else str(value) for value in row)] for key, row in values.items()]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page. Raises `OSError` if it cannot be written."""
    names = short_names(comparison)
    columns = ["", *names]
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
        Section("settings", "Settings that differ", [_differing(columns, comparison.settings, "settings")]),
        Section("facts", "Data and time", [Table(columns, fact_rows(comparison))]),
        Section("versions", "Versions that differ", [_differing(columns, comparison.versions, "versions")]),
    ]
    subtitle = " · ".join(str(run.run.path) for run in comparison.runs)
    write_text(path, render(title=f"{len(names)} runs compared", subtitle=subtitle, sections=sections))


def _curves_section(comparison: Comparison, names: Sequence[str]) -> Section | Unavailable:
    curves = {
        "loss": (
            "Training loss",
            "Runs with other terms or weights have other losses: compare their shape, not their height.",
        ),
        **{name: (metric.title, metric.caption) for name, metric in MONITORED.items()},
    }
    histories = [read_history(run.run.metrics) for run in comparison.runs]
    parts = []
    for metric, (title, caption) in curves.items():
        lines = {
            shorten(name, 60): history[metric]
            for name, history in zip(names, histories, strict=True)
            if metric in history
        }
        if lines:
            name = f"curve-{metric.replace('.', '-')}"
            parts.append(plot(overlay_figure(lines, title=title), name=name, caption=caption))
    if not parts:
        return Unavailable("curves", "Learning curves", "No run has logged anything.")
    return Section("curves", "Learning curves", parts)


def _differing(columns: Sequence[str], values: Mapping[str, Sequence[Any]], what: str) -> Part:
    return Table(columns, setting_rows(values)) if values else Paragraph(f"All {what} are the same.")

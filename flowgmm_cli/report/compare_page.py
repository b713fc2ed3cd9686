"""The page of a comparison: tables of results and differences, overlaid learning curves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flowgmm_cli import __version__
from flowgmm_cli.files import write_text
from flowgmm_cli.report.compare import METRICS, Comparison
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.history import Series, overlay_figure, read_history
from flowgmm_cli.report.page import Part, Prose, Section, Table, picture, render

_CURVES = {
    "loss": (
        "Training loss",
        "What training makes small. Runs with other terms or weights have other losses: "
        "compare their shape, not their height.",
    ),
    "monitor.loss": ("Loss on held-out rows", "The same on held-out rows, without labels."),
    "monitor.agreement": (
        "Agreement on held-out rows",
        "Share of held-out rows that get the same class with and without random changes.",
    ),
    "val.nll": ("Log loss on labelled held-out rows", "Lower is better."),
    "val.accuracy": ("Accuracy on labelled held-out rows", "Higher is better."),
}
Row = Sequence[Any]


def short_names(comparison: Comparison) -> list[str]:
    """A name for each run: its path, but for what all paths begin with.

    Where that leaves nothing to tell them apart by, the whole paths.
    """
    paths = [side.run.path.parts for side in comparison.sides]
    same = 0
    while all(len(parts) > same + 1 for parts in paths) and len({parts[same] for parts in paths}) == 1:
        same += 1
    names = ["/".join(parts[same:]) for parts in paths]
    return names if len(set(names)) == len(names) else [str(side.run.path) for side in comparison.sides]


def result_rows(comparison: Comparison) -> list[Row]:
    """Lines of a table: what was measured, then one cell for each run."""
    rows: list[Row] = []
    for metric in METRICS:
        if metric == "bits_per_dim" and not _of_pixels(comparison):
            continue
        cells = []
        for side in comparison.sides:
            value = side.evaluation.metrics()[metric] if side.evaluation else None
            found = side.evaluation.classification.intervals.get(metric) if side.evaluation else None
            between = f" ({found.low:.4f} to {found.high:.4f})" if found else ""
            cells.append(f"{value:.4f}{between}" if value is not None else "-")
        rows.append([_WORDS.get(metric, metric), *cells])
    return rows


def _of_pixels(comparison: Comparison) -> bool:
    """Whether every run that was tested has bits for each pixel, and there is one."""
    tested = [side.evaluation for side in comparison.sides if side.evaluation]
    return bool(tested) and all(one.bits_per_dim is not None for one in tested)


def fact_rows(comparison: Comparison) -> list[Row]:
    """Lines on data and time, likewise."""

    def line(name: str, of: Callable[[Mapping[str, Any]], Any]) -> Row:
        cells = [of(side.info) for side in comparison.sides]
        return [name, *("-" if cell is None else str(cell) for cell in cells)]

    def rows(info: Mapping[str, Any], name: str) -> str | None:
        found = (info.get("rows") or {}).get(name)
        return None if found is None else f"{found:,}"

    return [
        ["status", *(side.status for side in comparison.sides)],
        line("recipe", lambda info: info.get("recipe")),
        line("training rows", lambda info: rows(info, "train")),
        line("labelled", lambda info: rows(info, "labelled")),
        line("test rows", lambda info: rows(info, "test")),
        line("data (fingerprint)", lambda info: str(info.get("fingerprint") or "-")[:12]),
        line("seed", lambda info: info.get("seed")),
        line("members", lambda info: len(info.get("members") or ()) or None),
        line("temperature", lambda info: _number((info.get("calibration") or {}).get("temperature"))),
        line("epochs", lambda info: info.get("epochs")),
        line("seconds", lambda info: f"{float(info.get('seconds') or 0):.0f}"),
        line("begun", lambda info: str(info.get("created", ""))[:16].replace("T", " ")),
    ]


def difference_rows(comparison: Comparison, names: Sequence[str]) -> list[Row]:
    """Lines of the differences from the first run: run, accuracy, interval, NLL, interval."""
    rows: list[Row] = []
    for name, one in zip(names[1:], comparison.against, strict=True):
        cells: list[str] = []
        for found in (one.accuracy, one.nll):
            cells += (
                [f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}"] if found else ["-", "-"]
            )
        rows.append([name, *cells])
    return rows


def setting_rows(values: Mapping[str, Sequence[Any]]) -> list[Row]:
    """Lines of what differs: key, then the value of each run."""
    return [[key, *("-" if value is None else str(value) for value in row)] for key, row in values.items()]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page. Raises `OSError` if it cannot be written."""
    names = short_names(comparison)
    first = names[0]
    columns = ["", *names]
    differences: list[Part] = [Prose(f"All differences are from {first}.")]
    differences += [
        Prose(f"{name}: {one.words}") for name, one in zip(names[1:], comparison.against, strict=True)
    ]
    differences.append(
        Table(
            ["run", "accuracy", "95 % interval", "NLL", "95 % interval of it"],
            difference_rows(comparison, names),
            "An interval that leaves out 0 is a difference that chance alone would rarely make. The settings "
            "of the better of many runs look better on these test rows than they are.",
            right=["accuracy", "95 % interval", "NLL", "95 % interval of it"],
        )
    )
    sections = [
        Section("results", "Results on test rows", [Table(columns, result_rows(comparison), _READING)]),
        Section("differences", "Differences", differences),
        Section("curves", "Learning curves", *_curves(comparison, names)),
        Section(
            "settings",
            "Settings that differ",
            *_table(columns, comparison.settings, "All settings are the same."),
        ),
        Section("facts", "Data and time", [Table(columns, fact_rows(comparison))]),
        Section(
            "versions",
            "Versions that differ",
            *_table(columns, comparison.versions, "All versions are the same."),
        ),
    ]
    text = render(
        title=f"{len(names)} runs compared",
        subtitle=" · ".join(str(side.run.path) for side in comparison.sides),
        sections=sections,
        footer=f"Made by flowgmm {__version__} on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC. This file needs "
        "nothing but itself.",
    )
    write_text(path, text)


def _curves(comparison: Comparison, names: Sequence[str]) -> tuple[list[Part], str]:
    histories = [read_history(side.run.metrics) for side in comparison.sides]
    parts: list[Part] = []
    for metric, (title, caption) in _CURVES.items():
        lines: dict[str, Series] = {
            shorten(name, 60): history[metric]
            for name, history in zip(names, histories, strict=True)
            if metric in history
        }
        if lines:
            figure = overlay_figure(lines, title=title)
            name = re.sub(r"\W", "-", metric)
            parts.append(picture(figure, name=f"curve-{name}", caption=caption))
    return parts, "" if parts else "No run has logged anything."


def _table(columns: Sequence[str], values: Mapping[str, Sequence[Any]], none: str) -> tuple[list[Part], str]:
    parts: list[Part] = [Table(columns, setting_rows(values))] if values else [Prose(none)]
    return parts, ""


def _number(value: Any) -> str | None:
    return f"{value:.2f}" if isinstance(value, float) else None


_READING = (
    "Intervals of 95 % in brackets. Accuracy, balanced accuracy and F1: higher is better; the others: lower."
)
_WORDS = {
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "nll": "NLL",
    "brier": "Brier score",
    "ece": "ECE",
    "density_nll": "-log p(x), nats",
    "bits_per_dim": "bits per pixel",
}

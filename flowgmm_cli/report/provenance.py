"""Sections on data, settings, their search, and versions: everything needed to repeat the run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm_cli.data.prepare import SplitRows
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Code, Paragraph, Part, Table
from flowgmm_cli.report.results import MAX_OPEN_ROWS
from flowgmm_cli.report.text import describe_source, pluralise


def data_section(context: ReportContext) -> list[Part]:
    """Rows and labels by split and class."""
    counts = dict(context.info.get("rows") or {})
    if not counts:
        raise UnavailableError("The run stopped before it had read its data.")
    parts: list[Part] = [
        Paragraph(
            f"Rows come from {describe_source(context.recipe)} (source `{context.recipe.data.use}`). "
            "Training uses the training rows and the labels of the labelled ones, and nothing else; held-out "
            "rows decide when to stop; test rows are used once, at the end."
        )
    ]
    try:
        rows = context.rows
    except UnavailableError as reason:
        note = Paragraph(f"Counts by class cannot be shown. {reason}", "note")
        return [*parts, _split_table(counts), note]
    if rows.fingerprint != context.info.get("fingerprint"):
        parts.append(
            Paragraph("The data has changed since the training; these are its current counts.", "note")
        )
    columns = [
        [column.name, column.kind, " by ".join(map(str, column.shape)) or "1"] for column in rows.columns
    ]
    summary = f"show {pluralise(len(columns), 'input column')}"
    column_table = Table(["input column", "kind", "numbers in a cell"], columns, summary=summary)
    return [*parts, _class_table(rows), column_table]


def _split_table(counts: Mapping[str, int]) -> Table:
    rows = [
        [split, *(f"{counts.get(key, 0):,}" for key in keys)]
        for split, keys in (
            ("training", ("train", "labelled")),
            ("held out", ("val", "val_labelled")),
            ("test", ("test", "test")),
        )
    ]
    return Table(["split", "rows", "labels used"], rows, right=["rows", "labels used"])


def _class_table(rows: SplitRows) -> Table:
    splits = {"training": rows.train, "held out": rows.val, "test": rows.test}
    labels = {name: split.labels for name, split in splits.items() if split is not None}
    body: list[list[Any]] = [
        [name, *(f"{int((values == index).sum()):,}" for values in labels.values())]
        for index, name in enumerate(rows.class_names)
    ]
    body.append(["without label", *(f"{int((values < 0).sum()):,}" for values in labels.values())])
    body.append(["all", *(f"{len(values):,}" for values in labels.values())])
    caption = (
        "Number of rows of each class with a visible label, by split. The model learns the density from rows "
        "without a visible label too."
    )
    summary = f"show all {len(rows.class_names)} classes" if len(body) > MAX_OPEN_ROWS else ""
    names = list(labels)
    return Table(["class", *names], body, caption, right=names, highlight=[len(body) - 1], summary=summary)


def settings_section(context: ReportContext) -> list[Part]:
    """The recipe and the arguments of the command line."""
    arguments, overlays, overrides = (
        [str(word) for word in context.info.get(key) or ()] for key in ("argv", "overlays", "overrides")
    )
    parts: list[Part] = []
    if arguments and arguments[0] == "train":
        parts.append(Paragraph(f"Trained with: flowgmm {shlex.join(arguments)}"))
    if overlays:
        parts.append(Paragraph(f"Overlays of the recipe: {', '.join(overlays)}", "note"))
    if overrides:
        parts.append(Paragraph(f"Overrides on the command line: {shlex.join(overrides)}", "note"))
    recipe = context.run.path / "recipe.yaml"
    if recipe.is_file():
        parts.append(Code(recipe.read_text(encoding="utf-8", errors="replace"), "the recipe as given"))
    return [*parts, Code(context.recipe.to_yaml(), "every setting, defaults included")]


def search_section(context: ReportContext) -> list[Part]:
    """Table of the candidates of the search before training."""
    search = context.search
    if search is None:
        raise UnavailableError("The recipe has no search, so its settings were used unchanged.")
    winners = set(search.get("kept") or ())
    columns = ["candidate", "NLL", "accuracy", "agreement", "density", "score", "seconds", "settings"]
    rows = []
    for candidate in search["candidates"]:
        changes = [f"{key} = {value}" for key, value in candidate["changes"].items()]
        numbers = [f"{candidate[key]:.3f}" for key in ("nll", "accuracy", "agreement", "density", "score")]
        name = candidate["name"] + (" (kept)" if candidate["name"] in winners else "")
        rows.append([name, *numbers, f"{candidate['seconds']:.0f}", ", ".join(changes) or "as in the recipe"])
    caption = (
        "Before training, each of these settings was trained on parts of the labelled rows and evaluated on "
        "the rest: log loss and accuracy on the left-out labels, agreement of the trainings on unlabelled "
        "rows, and density of rows that no training saw. The best by score were trained in full, and their "
        "predictions are averaged."
    )
    highlight = [i for i, candidate in enumerate(search["candidates"]) if candidate["name"] in winners]
    parts: list[Part] = [Table(columns, rows, caption, right=columns[1:7], highlight=highlight)]
    reason = str(search.get("reason", ""))
    return [*parts, Paragraph(f"Why: {reason}.", "note")] if reason else parts


def versions_section(context: ReportContext) -> list[Part]:
    """Time, place and software of the run."""
    info = context.info
    facts: Sequence[tuple[str, Any]] = (
        ("run", context.run.path),
        ("started", str(info.get("created", ""))[:19].replace("T", " ") + " UTC"),
        ("duration", f"{float(info.get('seconds') or 0):.0f} s"),
        ("status", context.status),
        ("seed", info.get("seed")),
        ("device", info.get("device")),
        ("precision", info.get("precision")),
        ("epochs", info.get("epochs")),
        ("optimiser steps", info.get("steps")),
        ("fingerprint of the data", info.get("fingerprint")),
    )
    keys = ("kind", "name", "package", "version")
    components = dict.fromkeys(
        tuple(component.get(key) for key in keys) for component in info.get("components") or ()
    )
    return [
        Table(["property", "value"], [fact for fact in facts if fact[1] is not None]),
        Table(
            ["package", "version"], list((info.get("versions") or {}).items()), summary="versions of packages"
        ),
        Table(
            ["kind", "component", "package", "version"], list(components), summary="origin of each component"
        ),
    ]

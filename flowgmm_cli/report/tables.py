"""Sections made of tables: summary, classes, baselines, data, settings, their search, and versions."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from flowgmm_cli.evaluation.metrics import BaselineResult, ClassificationMetrics, Evaluation, wilson_interval
from flowgmm_cli.report import text
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Code, Paragraph, Part, Table, Tiles
from flowgmm_cli.report.text import describe_source, method_name, percent, pluralise

MAX_OPEN_CLASSES = 30  # a table of more classes is collapsed
Rows = Sequence[Sequence[Any]]


def class_table(columns: Sequence[str], rows: Rows, caption: str, totals: Rows = ()) -> Table:
    """Return a table of numbers with a row for each class, and with rows of totals below."""
    summary = f"show all {len(rows)} classes" if len(rows) > MAX_OPEN_CLASSES else ""
    highlight = [row[0] for row in totals[-1:]]
    return Table(columns, [*rows, *totals], caption, right=columns[1:], highlight=highlight, summary=summary)


def summary_section(context: ReportContext) -> list[Part]:
    """The model, its data, its quality, and the uncertainty of the results."""
    rows = dict(context.info.get("rows") or {})
    parts: list[Part] = []
    if context.status != "done":
        error = context.info.get("error")
        reason = f" ({error})" if error else ""
        parts.append(
            Paragraph(f"This run is not finished; its status is `{context.status}`{reason}.", "lead")
        )
    if context.class_names:
        members = len(context.info.get("members") or ()) or context.recipe.ensemble
        model = text.describe_model(context.recipe, rows, len(context.class_names), members)
        parts.append(Paragraph(model, "lead"))
    evaluation = context.evaluation
    if evaluation is None:
        reason = "there are no labelled test rows" if context.facts else "the run has no model yet"
        parts.append(Paragraph(f"The model was not evaluated: {reason}."))
    else:
        parts.append(_tiles(evaluation, rows))
        sentences = (
            text.describe_accuracy(evaluation),
            text.describe_confidence(evaluation.classification),
            text.describe_weaknesses(evaluation.classification),
            text.compare_with_baselines(evaluation),
        )
        parts += [Paragraph(sentence) for sentence in sentences if sentence]
    caveats = text.list_caveats(context.info, evaluation, context.facts)
    return [*parts, *(Paragraph(caveat, "note") for caveat in caveats)]


def _tiles(evaluation: Evaluation, rows: Mapping[str, int]) -> Tiles:
    metrics = evaluation.classification
    limits = {
        name: f"{percent(item.low)} to {percent(item.high)}" for name, item in metrics.intervals.items()
    }
    tiles = [
        ("accuracy", percent(metrics.accuracy), limits.get("accuracy", "")),
        ("balanced accuracy", percent(metrics.balanced_accuracy), limits.get("balanced_accuracy", "")),
        ("macro F1", f"{metrics.macro_f1:.3f}", "mean over classes, at best 1"),
        ("calibration error (ECE)", f"{metrics.ece:.3f}", f"by chance {text.chance_ece(metrics):.3f}"),
        ("log loss (NLL)", f"{metrics.nll:.3f}", "nats per row, at best 0"),
    ]
    if (bits := evaluation.bits_per_dim) is not None:
        tiles.append(("bits per dimension", f"{bits:.3f}", "8 in an uncompressed image"))
    labelled, train = rows.get("labelled", 0), rows.get("train", 0)
    return Tiles([*tiles, ("labelled rows", f"{labelled:,}", f"of {train:,} for training")])


def classes_section(context: ReportContext) -> list[Part]:
    """Recall, precision and F1 of each class."""
    rows = []
    for row in context.require_evaluation().classification.per_class:
        interval = wilson_interval(round(row.recall * row.support), row.support) if row.support else None
        limits = f"{percent(interval.low)} to {percent(interval.high)}" if interval else "-"
        recall = percent(row.recall) if row.support else "-"
        precision = percent(row.precision) if row.predicted else "-"
        rows.append([row.name, f"{row.support:,}", recall, limits, precision, f"{row.f1:.3f}"])
    columns = ["class", "test rows", "recall", "95 % interval", "precision", "F1"]
    if labelled := _count_labels(context):
        columns.insert(1, "labelled")
        for cells, count in zip(rows, labelled, strict=True):
            cells.insert(1, count)
    caption = (
        "Labelled: training rows of the class with a visible label. Recall: share of the test rows of the "
        "class that the model assigns to it. Precision: share of the rows assigned to the class that belong "
        "to it. F1: harmonic mean of both."
    )
    return [class_table(columns, rows, caption)]


def _count_labels(context: ReportContext) -> list[str]:
    """Labelled training rows by class; empty if the data cannot be read."""
    try:
        labels = context.rows.train.labels
    except UnavailableError:
        return []
    return [f"{int((labels == index).sum()):,}" for index in range(len(context.class_names))]


def baselines_section(context: ReportContext) -> list[Part]:
    """The model in a table with simple methods, the most accurate first."""
    evaluation = context.require_evaluation()
    if not evaluation.baselines:
        raise UnavailableError(
            "No baselines were fitted. `flowgmm eval --baselines` fits five simpler methods to the same rows "
            "and labels; a report written afterwards shows them here."
        )
    metrics = evaluation.classification
    methods: dict[str, ClassificationMetrics | BaselineResult] = {"flowgmm": metrics, **evaluation.baselines}
    rows = []
    for name, result in sorted(methods.items(), key=lambda item: -item[1].accuracy):
        values = (result.accuracy, result.balanced_accuracy, result.macro_f1, result.nll, result.ece)
        rows.append([method_name(name), *(f"{value:.4f}" for value in values)])
    columns = ["method", "accuracy", "balanced accuracy", "macro F1", "NLL", "ECE"]
    interval = metrics.intervals["accuracy"]
    caption = (
        "All methods were trained on the same vectors and labels, and tested on the same "
        f"{pluralise(metrics.n, 'row')}. Each baseline chose its settings by cross-validation on the "
        f"labelled rows. Differences in accuracy within {percent(interval.low)} to {percent(interval.high)} "
        "may be chance."
    )
    return [Table(columns, rows, caption, right=columns[1:], highlight=["flowgmm"])]


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
    except UnavailableError as error:
        keys = {"training": ("train", "labelled"), "held out": ("val", "val_labelled"), "test": ("test",) * 2}
        lines = [[split, *(f"{counts.get(key, 0):,}" for key in pair)] for split, pair in keys.items()]
        table = Table(["split", "rows", "labels used"], lines, right=["rows", "labels used"])
        return [*parts, table, Paragraph(f"Counts by class cannot be shown. {error.message}", "note")]
    if rows.fingerprint != context.info.get("fingerprint"):
        note = "The data has changed since the training; these are its current counts."
        parts.append(Paragraph(note, "note"))
    splits = {"training": rows.train, "held out": rows.val, "test": rows.test}
    labels = {name: split.labels for name, split in splits.items() if split is not None}
    lines = [
        [name, *(f"{int((values == index).sum()):,}" for values in labels.values())]
        for index, name in [*enumerate(rows.class_names), (-1, "without label")]
    ]
    totals = [lines.pop(), ["all", *(f"{len(values):,}" for values in labels.values())]]
    caption = (
        "Number of rows of each class with a visible label, by split. The model learns the density from rows "
        "without a visible label too."
    )
    table = class_table(["class", *labels], lines, caption, totals)
    columns = [
        [column.name, column.kind, " by ".join(map(str, column.shape)) or "1"] for column in rows.columns
    ]
    summary = f"show {pluralise(len(columns), 'input column')}"
    return [*parts, table, Table(["input column", "kind", "numbers in a cell"], columns, summary=summary)]


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
    highlight = [f"{name} (kept)" for name in winners]
    parts: list[Part] = [Table(columns, rows, caption, right=columns[1:7], highlight=highlight)]
    reason = str(search.get("reason", ""))
    return [*parts, Paragraph(f"Why: {reason}.", "note")] if reason else parts


def versions_section(context: ReportContext) -> list[Part]:
    """Time, place and software of the run."""
    info = context.info
    facts = {
        "run": context.run.path,
        "started": str(info.get("created", ""))[:19].replace("T", " ") + " UTC",
        "duration": f"{float(info.get('seconds') or 0):.0f} s",
        "status": context.status,
        **{key: info.get(key) for key in ("seed", "device", "precision", "epochs")},
        "optimiser steps": info.get("steps"),
        "fingerprint of the data": info.get("fingerprint"),
    }
    keys = ("kind", "name", "package", "version")
    components = dict.fromkeys(tuple(item.get(key) for key in keys) for item in info.get("components") or ())
    packages = list((info.get("versions") or {}).items())
    headings = ["kind", "component", "package", "version"]
    return [
        Table(["property", "value"], [fact for fact in facts.items() if fact[1] is not None]),
        Table(["package", "version"], packages, summary="versions of packages"),
        Table(headings, list(components), summary="origin of each component"),
    ]

"""Sections made of tables: summary, classes, data, settings, their search, and versions."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.evaluation.intervals import wilson_interval
from flowgmm_cli.evaluation.metrics import Evaluation
from flowgmm_cli.formatting import format_duration, format_number, format_optional, pluralise
from flowgmm_cli.recipe.yaml import write_flow
from flowgmm_cli.report import text
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Code, Paragraph, Part, Table, Tiles
from flowgmm_cli.report.text import describe_source, percent

MAX_OPEN_CLASSES = 30  # a table of more classes is collapsed
MAX_LISTED_CLASSES = 200  # of more classes some are left out
Rows = Sequence[Sequence[Any]]


def class_table(
    columns: Sequence[str],
    rows: Rows,
    caption: str,
    totals: Rows = (),
    *,
    order: npt.NDArray[np.floating[Any]],
    choice: str,
) -> Table:
    """Return a table of numbers with a row for each class, and with rows of totals below.

    Of very many classes those with the lowest numbers in `order` are listed, which `choice` describes.
    """
    classes, summary = len(rows), ""
    if classes > MAX_OPEN_CLASSES:
        summary = f"show all {classes} classes"
    if classes > MAX_LISTED_CLASSES:
        rows = [rows[index] for index in np.argsort(order, kind="stable")[:MAX_LISTED_CLASSES]]
        summary = f"show {MAX_LISTED_CLASSES} of {classes:,} classes"
        caption += f" Of the {classes:,} classes the {MAX_LISTED_CLASSES} with {choice} are listed."
    highlight = [row[0] for row in totals[-1:]]
    return Table(columns, [*rows, *totals], caption, right=columns[1:], highlight=highlight, summary=summary)


def summary_section(context: ReportContext) -> Iterator[Part]:
    """The model, its data, its quality, and the uncertainty of the results."""
    rows = dict(context.info.get("rows") or {})
    if context.status != "done":
        error = context.info.get("error")
        reason = f" ({error})" if error else ""
        yield Paragraph(f"This run is not finished; its status is `{context.status}`{reason}.", "lead")
    if context.class_names:
        members = len(context.info.get("members") or ()) or context.recipe.ensemble
        model = text.describe_model(context.recipe, rows, len(context.class_names), members)
        yield Paragraph(model, "lead")
    evaluation = context.evaluation
    if evaluation is None:
        reason = "no label was held out" if context.facts else "the run has no model yet"
        yield Paragraph(f"The model was not evaluated: {reason}.")
    else:
        yield _tiles(evaluation, rows)
        sentences = [
            text.describe_accuracy(evaluation),
            text.describe_confidence(evaluation),
            text.describe_weaknesses(evaluation.classification),
            text.describe_verdict(evaluation),
            *text.read_forecasts(context.run.path / "../../.."),  # if it is a run of a curve
            text.suggest_next_step(context.run.path, evaluation),
        ]
        yield from map(Paragraph, filter(None, sentences))
    for caveat in text.list_caveats(context.info, evaluation, context.facts):
        yield Paragraph(caveat, "note")
    with suppress(FlowgmmError):  # the sections that show the rows give the reason
        for warning in context.row_warnings:
            yield Paragraph(f"Warning: {warning.text}.", "note")


def _tiles(evaluation: Evaluation, rows: Mapping[str, int]) -> Tiles:
    metrics = evaluation.classification
    limits = {name: text.percent_range(interval) for name, interval in metrics.intervals.items()}
    tiles = [
        ("accuracy", percent(metrics.accuracy), limits.get("accuracy", "")),
        ("balanced accuracy", percent(metrics.balanced_accuracy), limits.get("balanced_accuracy", "")),
        ("macro F1", percent(metrics.macro_f1), limits.get("macro_f1", "")),
        ("calibration error (ECE)", f"{metrics.ece:.3f}", f"by chance {text.chance_ece(metrics):.3f}"),
        ("log loss (NLL)", f"{metrics.nll:.3f}", "nats per row, at best 0"),
    ]
    if (bits := evaluation.bits_per_dim) is not None:
        tiles.append(("bits per dimension", f"{bits:.3f}", "8 in an uncompressed image"))
    if (summary := evaluation.cross_fitted) and evaluation.split == "test":
        limit = f"{text.percent_range(summary.intervals['accuracy'])}, {pluralise(summary.n, 'row')}"
        tiles.insert(1, ("cross-fitted accuracy", percent(summary.metrics["accuracy"]), limit))
    labelled, train = rows.get("labelled", 0), rows.get("train", 0)
    return Tiles([*tiles, ("labelled rows", f"{labelled:,}", f"of {train:,} for training")])


def classes_section(context: ReportContext) -> Iterator[Part]:
    """Recall, precision and F1 of each class."""
    counts, evaluation = context.labelled_counts, context.require_evaluation()
    rows, metrics = [], evaluation.classification
    for index, row in enumerate(metrics.per_class):
        recall = limits = "-"
        if row.recall is not None:
            recall = percent(row.recall)
            limits = text.percent_range(wilson_interval(round(row.recall * row.support), row.support))
        precision = "-" if row.precision is None else percent(row.precision)
        labelled = [] if counts is None else [f"{counts[index]:,}"]
        numbers = [f"{row.support:,}", recall, limits, precision, format_optional(row.f1, ".3f")]
        rows.append([row.name, *labelled, *numbers])
    columns = ["recall", "95 % interval", "precision", "F1"]
    labelled = [] if counts is None else ["labelled"]
    averages = metrics.describe_averages()
    yield class_table(
        ["class", *labelled, f"{text.row_kind(evaluation)}s", *columns],
        rows,
        "Labelled: training rows of the class with a visible label. Recall: share of the rows of the "
        "class that the model assigns to it. Precision: share of the rows assigned to the class that belong "
        "to it. F1: harmonic mean of both." + (f" {averages[:1].upper()}{averages[1:]}." if averages else ""),
        order=np.array([np.inf if row.recall is None else row.recall for row in metrics.per_class]),
        choice="the lowest recall (`flowgmm eval --json` has all)",
    )


def data_section(context: ReportContext) -> Iterator[Part]:
    """Rows and labels by split and class."""
    sizes = dict(context.info.get("rows") or {})
    if not sizes:
        raise UnavailableError("The run stopped before it had read its data.")
    yield Paragraph(
        f"Rows come from {describe_source(context.recipe)} (source `{context.recipe.data.use}`). "
        "Training uses the training rows and the labels of the labelled ones, and nothing else; held-out "
        "rows decide when to stop; test rows are used once, at the end."
    )
    try:
        rows = context.rows
    except UnavailableError as error:
        keys = {"training": ("train", "labelled"), "held out": ("val", "val_labelled"), "test": ("test",) * 2}
        lines = [[split, *(f"{sizes.get(key, 0):,}" for key in pair)] for split, pair in keys.items()]
        yield Table(["split", "rows", "labels used"], lines, right=["rows", "labels used"])
        yield Paragraph(f"Counts by class cannot be shown. {error.message}", "note")
        return
    if rows.fingerprint != context.info.get("fingerprint"):
        yield Paragraph("The data has changed since the training; these are its current counts.", "note")
    splits = {"training": rows.train, "held out": rows.val, "test": rows.test}
    labels = {name: split.labels for name, split in splits.items() if split is not None}
    names = ["without label", *rows.class_names]  # -1, 0, 1, ...
    counts = np.array([np.bincount(values + 1, minlength=len(names)) for values in labels.values()]).T
    unlabelled, *lines = (
        [name, *(f"{count:,}" for count in row)] for name, row in zip(names, counts, strict=True)
    )
    yield class_table(
        ["class", *labels],
        lines,
        "Number of rows of each class with a visible label, by split. The model learns the density from rows "
        "without a visible label too.",
        [unlabelled, ["all", *(f"{len(values):,}" for values in labels.values())]],
        order=-counts[1:, 0],
        choice="the most labelled training rows",
    )
    columns = [
        [column.name, column.kind, " by ".join(map(str, column.shape)) or "1"] for column in rows.columns
    ]
    summary = f"show {pluralise(len(columns), 'input column')}"
    yield Table(["input column", "kind", "numbers in a cell"], columns, summary=summary)


def settings_section(context: ReportContext) -> Iterator[Part]:
    """The recipe and the arguments of the command line."""
    arguments, overlays, overrides = (
        [str(word) for word in context.info.get(key) or ()] for key in ("argv", "overlays", "overrides")
    )
    if arguments and arguments[0] == "train":
        yield Paragraph(f"Trained with: flowgmm {shlex.join(arguments)}")
    if overlays:
        yield Paragraph(f"Overlays of the recipe: {', '.join(overlays)}", "note")
    if overrides:
        yield Paragraph(f"Overrides on the command line: {shlex.join(overrides)}", "note")
    recipe = context.run.path / "recipe.yaml"
    if recipe.is_file():
        yield Code(recipe.read_text(encoding="utf-8", errors="replace"), "the recipe as given")
    yield Code((context.run.path / "resolved.yaml").read_text("utf-8"), "every setting, defaults included")


def search_section(context: ReportContext) -> Iterator[Part]:
    """Table of the candidates of the search before training."""
    search = context.search
    if search is None:
        raise UnavailableError("The recipe has no search, so its settings were used unchanged.")
    winners = set(search.get("kept") or ())
    columns = ["candidate", "NLL", "accuracy", "agreement", "density", "score", "seconds", "settings"]
    rows = []
    for candidate in search["candidates"]:
        changes = [f"{key}={write_flow(value)}" for key, value in candidate["changes"].items()]
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
    yield Table(columns, rows, caption, right=columns[1:7], highlight=highlight)
    if reason := search.get("reason"):
        yield Paragraph(f"Why: {reason}.", "note")
    if gain := search.get("gain"):
        yield Paragraph(f"What it gained: {gain}.", "note")


def versions_section(context: ReportContext) -> Iterator[Part]:
    """Time, place and software of the run."""
    info = context.info
    facts = {
        "run": context.run.path,
        "started": str(info.get("created", ""))[:19].replace("T", " ") + " UTC",
        "duration": format_duration(float(info.get("seconds") or 0)),
        "status": context.status,
        **{key: info.get(key) for key in ("seed", "device", "precision")},
        "epochs": info.get("epochs") and format_number(info["epochs"]),
        "optimiser steps": info.get("steps") and format_number(info["steps"]),
        "fingerprint of the data": info.get("fingerprint"),
    }
    keys = ("kind", "name", "package", "version")
    components = dict.fromkeys(tuple(item.get(key) for key in keys) for item in info.get("components") or ())
    headings, packages = ["kind", "component", "package", "version"], dict(info.get("versions") or {})
    yield Table(["property", "value"], [fact for fact in facts.items() if fact[1] is not None])
    yield Table(["package", "version"], list(packages.items()), summary="versions of packages")
    yield Table(headings, list(components), summary="origin of each component")

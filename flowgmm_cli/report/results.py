"""Sections on the quality of the model: summary, classes, and the comparison with baselines."""

from __future__ import annotations

from collections.abc import Mapping

from flowgmm_cli.evaluation.baselines import BaselineResult
from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.evaluation.intervals import wilson_interval
from flowgmm_cli.evaluation.metrics import ClassificationMetrics
from flowgmm_cli.report import text
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Paragraph, Part, Table, Tile, Tiles
from flowgmm_cli.report.text import method_name, percent, pluralise

MAX_OPEN_ROWS = 30  # a longer table is collapsed


def require_evaluation(context: ReportContext) -> Evaluation:
    """Return the results on test rows. Raises `UnavailableError` without test results."""
    if context.evaluation is None:
        raise UnavailableError(
            "There are no results on test rows: the run has no labelled test rows, or is not finished."
        )
    return context.evaluation


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
        metrics = evaluation.classification
        parts.append(_tiles(evaluation, rows))
        parts += [
            Paragraph(sentences)
            for sentences in (
                text.describe_accuracy(evaluation),
                text.describe_confidence(metrics),
                text.describe_weaknesses(metrics),
                text.compare_with_baselines(evaluation),
            )
            if sentences
        ]
    caveats = text.list_caveats(context.info, evaluation, context.facts)
    return [*parts, *(Paragraph(caveat, "note") for caveat in caveats)]


def _tiles(evaluation: Evaluation, rows: Mapping[str, int]) -> Tiles:
    metrics = evaluation.classification

    def interval(name: str) -> str:
        value = metrics.intervals.get(name)
        return f"{percent(value.low)} to {percent(value.high)}" if value else ""

    tiles = [
        Tile("accuracy", percent(metrics.accuracy), interval("accuracy")),
        Tile("balanced accuracy", percent(metrics.balanced_accuracy), interval("balanced_accuracy")),
        Tile("macro F1", f"{metrics.macro_f1:.3f}", "mean over classes, at best 1"),
        Tile("calibration error (ECE)", f"{metrics.ece:.3f}", f"by chance {text.chance_ece(metrics):.3f}"),
        Tile("log loss (NLL)", f"{metrics.nll:.3f}", "nats per row, at best 0"),
    ]
    if evaluation.bits_per_dim is not None:
        tiles.append(
            Tile("bits per dimension", f"{evaluation.bits_per_dim:.3f}", "8 in an uncompressed image")
        )
    of_rows = f"of {rows.get('train', 0):,} for training"
    return Tiles([*tiles, Tile("labelled rows", f"{rows.get('labelled', 0):,}", of_rows)])


def classes_section(context: ReportContext) -> list[Part]:
    """Recall, precision and F1 of each class."""
    labelled = _count_labels(context)
    columns = ["class", "labelled", "test rows", "recall", "95 % interval", "precision", "F1"]
    rows = []
    for index, row in enumerate(require_evaluation(context).classification.per_class):
        interval = wilson_interval(round(row.recall * row.support), row.support) if row.support else None
        rows.append(
            [
                row.name,
                labelled[index] if labelled else None,
                f"{row.support:,}",
                percent(row.recall) if row.support else "-",
                f"{percent(interval.low)} to {percent(interval.high)}" if interval else "-",
                percent(row.precision) if row.predicted else "-",
                f"{row.f1:.3f}",
            ]
        )
    if not labelled:
        del columns[1]
        rows = [[row[0], *row[2:]] for row in rows]
    caption = (
        "Labelled: training rows of the class with a visible label. Recall: share of the test rows of the "
        "class that the model assigns to it. Precision: share of the rows assigned to the class that belong "
        "to it. F1: harmonic mean of both."
    )
    summary = f"show all {len(rows)} classes" if len(rows) > MAX_OPEN_ROWS else ""
    return [Table(columns, rows, caption, right=columns[1:], summary=summary)]


def _count_labels(context: ReportContext) -> list[str]:
    """Labelled training rows by class; empty if the data cannot be read."""
    try:
        labels = context.rows.train.labels
    except UnavailableError:
        return []
    return [f"{int((labels == index).sum()):,}" for index in range(len(context.class_names))]


def baselines_section(context: ReportContext) -> list[Part]:
    """The model in a table with simple methods, the most accurate first."""
    evaluation = require_evaluation(context)
    if not evaluation.baselines:
        raise UnavailableError(
            "No baselines were fitted. `flowgmm eval --baselines` fits five simpler methods to the same rows "
            "and labels; a report written afterwards shows them here."
        )
    metrics = evaluation.classification
    methods: list[tuple[str, ClassificationMetrics | BaselineResult]] = [
        ("flowgmm", metrics),
        *evaluation.baselines.items(),
    ]
    ranking = sorted(methods, key=lambda item: -item[1].accuracy)
    rows = []
    for name, result in ranking:
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
    highlight = [index for index, (name, _) in enumerate(ranking) if name == "flowgmm"]
    return [Table(columns, rows, caption, right=columns[1:], highlight=highlight)]

"""Sections on how good the model is: summary, classes, confusion, reliability, baselines."""

from __future__ import annotations

from flowgmm_cli.evaluation.evaluate import Evaluation
from flowgmm_cli.evaluation.intervals import wilson_interval
from flowgmm_cli.report import text as words
from flowgmm_cli.report.confusion import confusion_figure
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import method_name
from flowgmm_cli.report.page import Part, Prose, Table, Tile, Tiles, picture
from flowgmm_cli.report.reliability import reliability_figure
from flowgmm_cli.report.text import count, percent

_LONG = 30  # rows above which a table is folded


def summary(found: ReportContext) -> list[Part]:
    """What was trained on what, how good it is, and how sure one may be."""
    rows = dict(found.info.get("rows") or {})
    parts: list[Part] = []
    if found.status != "done":
        error = found.info.get("error")
        reason = f" ({error})" if error else ""
        parts.append(Prose(f"This run is not finished; its status is `{found.status}`{reason}.", "lead"))
    members = len(found.info.get("members") or ()) or found.recipe.ensemble
    if found.class_names:
        what = words.what_was_trained(found.recipe, rows, len(found.class_names), members)
        parts.append(Prose(what, "lead"))
    evaluation = found.evaluation
    if evaluation is None:
        reason = "there are no labelled test rows" if found.facts else "it has no model yet"
        parts.append(Prose(f"How good it is was not measured: {reason}."))
    else:
        parts.append(_tiles(evaluation, rows))
        parts.append(Prose(words.how_good(evaluation)))
        parts.append(Prose(words.how_sure(evaluation.classification)))
        for text in (words.weak_spots(evaluation.classification), words.against_baselines(evaluation)):
            parts += [Prose(text)] if text else []
    parts += [Prose(text, "note") for text in words.caveats(found.info, evaluation, found.facts)]
    return parts


def _tiles(found: Evaluation, rows: dict[str, int]) -> Tiles:
    one = found.classification

    def between(name: str) -> str:
        interval = one.intervals.get(name)
        return f"{percent(interval.low)} to {percent(interval.high)}" if interval else ""

    pixels = []
    if found.bits_per_dim is not None:
        pixels = [
            Tile("bits per dimension", f"{found.bits_per_dim:.3f}", "of a pixel, which as stored takes 8")
        ]
    return Tiles(
        [
            Tile("accuracy", percent(one.accuracy), between("accuracy")),
            Tile("balanced accuracy", percent(one.balanced_accuracy), between("balanced_accuracy")),
            Tile("macro F1", f"{one.macro_f1:.3f}", "mean over classes, at best 1"),
            Tile("calibration error (ECE)", f"{one.ece:.3f}", f"by chance alone {words.chance_ece(one):.3f}"),
            Tile("log loss (NLL)", f"{one.nll:.3f}", "nats per row, at best 0"),
            *pixels,
            Tile(
                "labelled rows", f"{rows.get('labelled', 0):,}", f"of {rows.get('train', 0):,} for training"
            ),
        ]
    )


def classes(found: ReportContext) -> list[Part]:
    """A table of the classes."""
    one = _evaluation(found).classification
    labelled = _labelled(found)
    columns = ["class", "labelled", "test rows", "found", "95 % interval"]
    columns += ["right when said", "F1"]
    rows = []
    for place, row in enumerate(one.per_class):
        interval = wilson_interval(round(row.recall * row.support), row.support) if row.support else None
        rows.append(
            [
                row.name,
                labelled[place] if labelled else None,
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
        "Labelled: training rows of the class whose label was seen. Found (recall): share of the test rows "
        "of the class that are given this class. Right when said (precision): share of the rows given this "
        "class that are of it. F1 is the harmonic mean of both."
    )
    folded = f"show all {len(rows)} classes" if len(rows) > _LONG else ""
    return [Table(columns, rows, caption, right=columns[1:], folded=folded)]


def confusion(found: ReportContext) -> list[Part]:
    """The confusion matrix."""
    one = _evaluation(found).classification
    caption = (
        "Each line is a true class, each column what the model said; the diagonal is what it got right. The "
        "colour is the share of the true class, so a dark cell off the diagonal is a confusion that is "
        "common for that class."
    )
    return [
        picture(confusion_figure(one, title="What was taken for what"), name="confusion", caption=caption)
    ]


def reliability(found: ReportContext) -> list[Part]:
    """The reliability diagram."""
    one = _evaluation(found).classification
    caption = (
        "Test rows are grouped by how sure the model said it was. A bar is the share of right answers in a "
        "group; on the dashed line it equals the stated confidence. Hatched is the gap: above the bar the "
        "model was too sure, inside it too modest. Pale bars rest on few rows. Below: how many rows have "
        "which confidence."
    )
    calibration = found.info.get("calibration") or {}
    parts: list[Part] = [
        picture(
            reliability_figure(one, title="Can its confidence be believed?", numbers=False),
            name="reliability",
            caption=caption,
        )
    ]
    return [*parts, Prose(words.calibration_words(calibration))] if calibration else parts


def baselines(found: ReportContext) -> list[Part]:
    """The model beside simple methods."""
    evaluation = _evaluation(found)
    if not evaluation.baselines:
        raise UnavailableError(
            "No simpler methods were tried. `flowgmm eval --baselines` fits five of them to the same rows "
            "and labels; a report made afterwards shows them here."
        )
    ours = evaluation.classification
    interval = ours.intervals["accuracy"]
    rows = [
        ["flowgmm", ours.accuracy, ours.balanced_accuracy, ours.macro_f1, ours.nll, ours.ece],
        *(
            [method_name(name), one.accuracy, one.balanced_accuracy, one.macro_f1, one.nll, one.ece]
            for name, one in evaluation.baselines.items()
        ),
    ]
    rows.sort(key=lambda row: -float(str(row[1])))
    columns = ["method", "accuracy", "balanced accuracy", "macro F1", "NLL", "ECE"]
    caption = (
        f"All methods saw the same vectors and the same labels, and are tested on the same "
        f"{count(ours.n, 'row')}. Each baseline chose its settings by cross-validation on the labelled rows. "
        f"Differences in accuracy within {percent(interval.low)} to {percent(interval.high)} may be chance."
    )
    shown = [[row[0], *(f"{float(str(value)):.4f}" for value in row[1:])] for row in rows]
    strong = [place for place, row in enumerate(rows) if row[0] == "flowgmm"]
    return [Table(columns, shown, caption, right=columns[1:], strong=strong)]


def _evaluation(found: ReportContext) -> Evaluation:
    if found.evaluation is None:
        raise UnavailableError(
            "There are no results on test rows: the run has no labelled ones, or is not finished."
        )
    return found.evaluation


def _labelled(found: ReportContext) -> list[str]:
    """Labelled training rows by class; empty where the data cannot be read."""
    try:
        labels = found.rows.train.labels
    except UnavailableError:
        return []
    return [f"{int((labels == place).sum()):,}" for place in range(len(found.class_names))]

"""Sections on the search over settings, on calibration and on the class prior."""

from __future__ import annotations

from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.page import Paragraph, Part, Table
from flowgmm_cli.report.text import describe_calibration, percent, pluralise

_MAX_OPEN_CLASSES = 12  # a longer table is collapsed


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


def calibration_section(context: ReportContext) -> list[Part]:
    """Temperature, and the class frequencies that the model assumes."""
    calibration = context.info.get("calibration")
    if not calibration:
        raise UnavailableError("The run stopped before its calibration.")
    parts: list[Part] = [Paragraph(describe_calibration(calibration))]
    if calibration.get("accuracy") is not None:
        labels, accuracy = pluralise(int(calibration["rows"]), "label"), percent(calibration["accuracy"])
        parts.append(
            Paragraph(f"The model predicted {accuracy} of the {labels} of the calibration right.", "note")
        )
    prior = context.facts.get("class_prior")
    if prior and len(prior) == len(context.class_names):
        caption = (
            "Frequencies of the classes that the model assumes before it sees a row (prior.class_prior). If "
            "the classes have other frequencies where the model is used, its confidences shift."
        )
        rows = [[name, percent(share)] for name, share in zip(context.class_names, prior, strict=True)]
        summary = f"show all {len(rows)} classes" if len(rows) > _MAX_OPEN_CLASSES else ""
        parts.append(
            Table(["class", "assumed share"], rows, caption, right=["assumed share"], summary=summary)
        )
    return parts

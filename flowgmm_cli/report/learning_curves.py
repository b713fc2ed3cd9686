"""Sections on the training: learning curves, the race of settings, calibration and class prior."""

from __future__ import annotations

from flowgmm_cli.errors import FlowgmmError
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.history import loss_figure, series_figure
from flowgmm_cli.report.page import Part, Prose, Table, picture
from flowgmm_cli.report.text import calibration_words, count, percent

_TITLES = {
    "monitor.loss": "Loss on held-out rows",
    "monitor.agreement": "Agreement on held-out rows",
    "val.nll": "Log loss on labelled held-out rows",
    "val.accuracy": "Accuracy on labelled held-out rows",
}
_CAPTIONS = {
    "monitor.loss": "What training minimises on rows without labels, measured after each epoch on rows it "
    "does not learn from. If it rises while the training loss falls, the model learns its rows by heart.",
    "monitor.agreement": "Share of held-out rows that get the same class with and without random changes. It "
    "needs no labels; a model that is sure of its classes for good reasons agrees with itself.",
    "val.nll": "Log loss on held-out rows with labels (beyond the labelled training rows).",
    "val.accuracy": "Share of right answers on held-out rows with labels (beyond the training labels).",
}


def curves(found: ReportContext) -> list[Part]:
    """Learning curves: loss and its terms, what was watched, and the learning rate."""
    figure = loss_figure(found.history)
    if figure is None:
        raise UnavailableError("Nothing was logged: there is no metrics.jsonl, or it is empty.")
    members = len(found.info.get("members") or ())
    parts: list[Part] = []
    if members > 1:
        parts.append(Prose(f"These are the curves of the first of {members} members.", "note"))
    parts.append(picture(figure, name="loss", caption=_loss_caption(found)))
    best = found.info.get("best") or {}
    for name, title in _TITLES.items():
        if name not in found.history:
            continue
        watched = name == best.get("metric")
        caption = _CAPTIONS[name]
        if watched:
            caption += f" It decided which weights were kept: those of epoch {best.get('epoch')}."
        drawn = series_figure(
            found.history[name],
            title=title,
            best=best.get("epoch") if watched else None,
            percent=name in ("monitor.agreement", "val.accuracy"),
        )
        parts.append(picture(drawn, name=name.replace(".", "-"), caption=caption))
    if "lr" in found.history:
        caption = "Size of the steps the optimiser takes, over the training."
        drawn = series_figure(found.history["lr"], title="Learning rate")
        parts.append(picture(drawn, name="learning-rate", caption=caption))
    return parts


def _loss_caption(found: ReportContext) -> str:
    terms = {
        "labelled": "error on labelled rows (how badly their known classes are predicted)",
        "unlabelled": "density of all rows (how unlikely the model finds the training rows)",
    }
    for component in found.recipe.regularisers:
        try:
            summary = registry().find("regulariser", component.use).spec().summary
        except FlowgmmError:  # a plugin that is no longer there
            continue
        terms[component.use.rpartition("/")[2]] = f"{component.use} ({summary[0].lower()}{summary[1:]})"
    said = [text for name, text in terms.items() if f"loss.{name}" in found.history]
    return "What training makes small, and the terms it is the sum of, by epoch: " + "; ".join(said) + "."


def race(found: ReportContext) -> list[Part]:
    """The race of settings before training."""
    search = found.search
    if search is None:
        raise UnavailableError("The recipe has no search: its settings were taken as they are.")
    kept = set(search.get("kept") or ())
    columns = ["candidate", "NLL", "accuracy", "agreement", "density", "score", "seconds", "settings"]
    rows, strong = [], []
    for place, one in enumerate(search["candidates"]):
        if one["name"] in kept:
            strong.append(place)
        changes = ", ".join(f"{key} = {value}" for key, value in one["changes"].items()) or "as in the recipe"
        numbers = [f"{one[key]:.3f}" for key in ("nll", "accuracy", "agreement", "density", "score")]
        name = one["name"] + (" (kept)" if one["name"] in kept else "")
        rows.append([name, *numbers, f"{one['seconds']:.0f}", changes])
    caption = (
        "Before training, these settings were each trained on parts of the labelled rows and judged by the "
        "labels they had not seen: log loss and accuracy there, agreement of their trainings on unlabelled "
        "rows, and density of rows none had seen. The best by score were trained in full and are averaged."
    )
    parts: list[Part] = [Table(columns, rows, caption, right=columns[1:7], strong=strong)]
    reason = str(search.get("reason", ""))
    return [*parts, Prose(f"Why: {reason}.", "note")] if reason else parts


def calibration(found: ReportContext) -> list[Part]:
    """The temperature, and how frequent the model takes each class to be."""
    facts = found.info.get("calibration")
    if not facts:
        raise UnavailableError("The run has not come to its calibration.")
    parts: list[Part] = [Prose(calibration_words(facts))]
    if facts.get("accuracy") is not None:
        parts.append(
            Prose(
                f"Of the {count(int(facts['rows']), 'label')} it was fitted on, {percent(facts['accuracy'])} "
                "were predicted right.",
                "note",
            )
        )
    prior = found.facts.get("class_prior")
    if prior and len(prior) == len(found.class_names):
        caption = (
            "How frequent the model takes each class to be before it looks at a row (prior.class_prior). If "
            "the classes come in other proportions where the model is used, its confidences shift."
        )
        rows = [[name, percent(share)] for name, share in zip(found.class_names, prior, strict=True)]
        folded = f"show all {len(rows)} classes" if len(rows) > 12 else ""
        parts.append(Table(["class", "assumed share"], rows, caption, right=["assumed share"], folded=folded))
    return parts

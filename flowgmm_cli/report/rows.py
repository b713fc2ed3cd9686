"""Sections on the rows: counts by split and class, and the map of the latent space."""

from __future__ import annotations

from typing import Any

from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.latent import LatentRows, latent_figure
from flowgmm_cli.report.page import Part, Prose, Table, picture
from flowgmm_cli.report.text import count, source_of

_LONG = 30


def data(found: ReportContext) -> list[Part]:
    """Rows and labels by split and class."""
    counts = dict(found.info.get("rows") or {})
    if not counts:
        raise UnavailableError("The run has not come to reading its data.")
    parts: list[Part] = [
        Prose(
            f"Rows come from {source_of(found.recipe)} (source `{found.recipe.data.use}`). Training sees the "
            "training rows and the labels of the labelled ones, nothing else; held-out rows show when to "
            "stop; test rows are looked at once, at the end."
        )
    ]
    try:
        rows = found.rows
    except UnavailableError as reason:
        parts.append(_splits(counts))
        parts.append(Prose(f"Counts by class cannot be shown. {reason}", "note"))
        return parts
    if found.data_changed:
        parts.append(
            Prose("The data has changed since the training; these are the counts as they are now.", "note")
        )
    return [*parts, _by_class(found), *_columns(rows.columns)]


def _splits(counts: dict[str, int]) -> Table:
    rows = [
        ["training", f"{counts.get('train', 0):,}", f"{counts.get('labelled', 0):,}"],
        ["held out", f"{counts.get('val', 0):,}", f"{counts.get('val_labelled', 0):,}"],
        ["test", f"{counts.get('test', 0):,}", f"{counts.get('test', 0):,}"],
    ]
    return Table(["split", "rows", "labels used"], rows, right=["rows", "labels used"])


def _by_class(found: ReportContext) -> Table:
    rows = found.rows
    splits = [("training", rows.train), ("held out", rows.val), ("test", rows.test)]
    names = [name for name, split in splits if split is not None]
    labels = [split.labels for _, split in splits if split is not None]
    body: list[list[Any]] = []
    for place, name in enumerate(rows.class_names):
        body.append([name, *(f"{int((one == place).sum()):,}" for one in labels)])
    body.append(["no label seen", *(f"{int((one < 0).sum()):,}" for one in labels)])
    body.append(["all", *(f"{len(one):,}" for one in labels)])
    folded = f"show all {len(rows.class_names)} classes" if len(body) > _LONG else ""
    caption = (
        "Number of rows of each class whose label may be seen, by split. Rows without a visible label still "
        "teach the model where rows lie."
    )
    return Table(["class", *names], body, caption, right=names, strong=[len(body) - 1], folded=folded)


def _columns(columns: tuple[Any, ...]) -> list[Part]:
    body = [[one.name, one.kind, " by ".join(map(str, one.shape)) or "1"] for one in columns]
    folded = f"show {count(len(body), 'input column')}"
    return [Table(["input column", "kind", "numbers in a cell"], body, folded=folded)]


def latent(found: ReportContext) -> list[Part]:
    """The latent space, in two dimensions."""
    from flowgmm_cli.trained import encode

    trained, held = found.trained, found.held
    if trained.preprocessor.dim < 2:
        raise UnavailableError("The latent space has one dimension only; there is no map to draw.")
    first = trained.model.parts[0]
    means, scales = first.mixture.moments()
    shown = LatentRows(
        z=encode(first, held.split.x).z.double().numpy(),
        labels=held.split.labels.numpy(),
        means=means.detach().double().cpu().numpy(),
        scales=scales.detach().double().cpu().numpy(),
        class_names=trained.class_names,
    )
    dims = shown.z.shape[1]
    members = len(trained.model.parts)
    caption = (
        f"Every dot is one of the {held.name}, placed where the flow puts it and coloured by its true class; "
        "crosses are the centres of the classes' Gaussians. Dots of one colour around their own cross are "
        "told apart well; dots amid another colour are the mistakes."
    )
    if dims > 2:
        caption += (
            f" The latent space has {dims} dimensions; this is the plane in which the centres differ most, "
            "so classes that overlap here may still be apart."
        )
    if members > 1:
        caption += f" Shown is the first of {members} members."
    if (shown.labels < 0).any():
        caption += " Grey dots have no known class."
    return [
        picture(
            latent_figure(shown, title="The latent space", seed=0),
            name="latent",
            caption=caption,
        )
    ]

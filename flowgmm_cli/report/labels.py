"""The section on labels that look wrong."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowgmm_cli.api import Rows
from flowgmm_cli.errors import RunError
from flowgmm_cli.evaluation.label_errors import LabelErrors, load_label_errors
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import ImageRow, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import describe_row, percent, shorten

SHOWN_ROWS = 20
SHOWN_IMAGES = 14


def labels_section(context: ReportContext) -> Iterator[Part]:
    """Number of labels that look wrong, and the least likely of them with their rows."""
    try:
        errors = load_label_errors(context.run)
    except RunError as error:
        raise UnavailableError("No training of this run has held out labels to check them.") from error
    checked = pluralise(len(errors.predictions), "label")
    if not len(errors):
        yield Paragraph(f"None of {checked} looks wrong to a model that has not seen it.")
        return
    yield Paragraph(
        f"{len(errors):,} of {checked} may be wrong ({percent(errors.share)}): a model that has not seen the "
        "label finds another class likelier, and as likely as it usually is in rows with its label. Some "
        "of these labels are right and their rows unusual. `flowgmm labels --save FILE` writes all of them."
    )
    yield _show_rows(context, errors.first(SHOWN_ROWS))


def select_rows(context: ReportContext, errors: LabelErrors) -> Rows:
    """Return the training rows of labels that look wrong. Raises `UnavailableError` if they are gone."""
    rows, ids = context.rows.train, errors.table()["id"].tolist()
    places = {str(name): place for place, name in enumerate(rows.ids)}
    if gone := [name for name in ids if name not in places]:
        raise UnavailableError(f"The data of the run has no row `{gone[0]}` any more.")
    return rows.take(np.array([places[name] for name in ids], np.int64))


def _show_rows(context: ReportContext, errors: LabelErrors) -> Part:
    """Show rows as images or as a table."""
    rows, labels = select_rows(context, errors), errors.to_dicts()
    if context.trained.image is not None:
        rows = rows.take(np.arange(min(SHOWN_IMAGES, len(rows))))
        if (images := context.encode("", rows).encoded.images) is not None:
            notes = [f"{shorten(row['label'], 10)}\n→ {shorten(row['suggested'], 9)}" for row in labels]
            row = ImageRow("", [images.numpy()], notes[: len(rows)])
            title = "Labels that look wrong"
            figure = image_grid_figure([row], limits=context.image_limits, title=title)
            return plot(figure, name="labels", caption="Under each image its label, then the likelier class.")
    cells = [
        [
            *(f"{value:.2f}" if isinstance(value, float) else value for value in row.values()),
            describe_row(rows, context.rows.columns, place),
        ]
        for place, row in enumerate(labels)
    ]
    columns = ["id", "label", "suggested", "p of the label", "p of the suggested", "columns"]
    return Table(columns, cells, "The least likely labels first.", right=columns[3:5])

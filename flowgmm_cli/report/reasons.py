"""The section on the reasons of predictions: the columns or words behind doubtful and unlikely rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from flowgmm_cli.inference.why import Explainer
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.galleries import compute_row_statistics, select_uncertain
from flowgmm_cli.report.page import Paragraph, Part, Table

ROWS = 4  # doubtful rows, and unlikely ones
_CAPTIONS = {
    "why": "The {} between two classes: loss in the log-odds of the predicted class against the second one "
    "without a cell or word, in nats.",
    "why_ood": "The {} with the lowest density: gain in log-density with the cells of rows that are alike "
    "otherwise, or without the word, in nats.",
}


def reasons_section(context: ReportContext) -> Iterator[Part]:
    """Columns or words behind the class of doubtful rows and the low density of unlikely ones."""
    columns = context.trained.preprocessor.columns
    if any(len(column.shape) > 1 or column.kind == "image" for column in columns):
        raise UnavailableError("Reasons are columns or words, and this model reads images or grids.")
    validation, names = context.validation, context.trained.class_names
    statistics = compute_row_statistics(context.trained.model, validation.encoded, validation.rows.labels)
    explainer = Explainer(context.trained, context.rows.train, context.data_context)
    yield Paragraph(
        "A cell is replaced by others of its column, or a word is left out, and the model predicts "
        "again. `flowgmm predict --why` does so for every row."
    )
    unlikely = np.argsort(validation.encoded.latents.log_prob().numpy(), kind="stable")[:ROWS]
    for kind, places in (("why", select_uncertain(statistics, ROWS)), ("why_ood", unlikely)):
        rows = validation.rows.take(places)
        table = explainer.explain(rows, np.ones(len(rows), dtype=bool)).table()
        cells = rows.ids, rows.labels, statistics.predicted[places], table[kind], table["nearest"]
        lines = [
            [str(row_id), names[label] if label >= 0 else None, names[predicted], text, nearest]
            for row_id, label, predicted, text, nearest in zip(*cells, strict=True)
        ]
        headings = ["row", "label", "predicted", "reasons", "nearest training row"]
        yield Table(headings, lines, _CAPTIONS[kind].format(validation.name))

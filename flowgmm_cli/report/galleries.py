"""Galleries of rows: typical, atypical and uncertain rows of each class, and images by score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.inference.gallery import (
    RowStatistics,
    compute_row_statistics,
    positions_by_quantile,
    select_extremes,
    select_uncertain,
)
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import ImageRow, Images, Limits, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import format_cell, pluralise, shorten

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

IMAGES_PER_ROW = 10  # of a figure by score
IMAGES_PER_KIND = 7  # typical or odd images of a class
UNCERTAIN_IMAGES = 14
ROWS_PER_KIND = 2  # typical or odd rows of a class in a table
UNCERTAIN_ROWS = 5
MAX_CLASSES = 12
MAX_COLUMNS = 8
_QUANTILES = ("lowest", "lower quarter", "middle", "upper quarter", "highest")


def gallery_section(context: ReportContext) -> list[Part]:
    """Validation rows that are typical of their class, odd ones, and uncertain ones."""
    model, validation = context.trained.model, context.validation
    statistics = compute_row_statistics(model, validation.encoded, validation.rows.labels)
    classes = np.unique(statistics.classes).tolist()
    parts: list[Part] = [
        Paragraph(
            f"For each class the {validation.name} with the highest and the lowest class-conditional "
            "density, log p(x | class): the most typical and the oddest rows by the model. The class is the "
            "label, or the predicted class of rows without a label."
        )
    ]
    if len(classes) > MAX_CLASSES:
        omitted = pluralise(len(classes) - MAX_CLASSES, "further class")
        parts.append(Paragraph(f"Not shown: {omitted}.", "note"))
        classes = classes[:MAX_CLASSES]
    if validation.images is not None:
        return [*parts, *_image_parts(context, statistics, validation.images, classes)]
    return [*parts, *_tables(context, statistics, classes)]


def _image_parts(
    context: ReportContext, statistics: RowStatistics, images: Images, classes: Sequence[int]
) -> list[Part]:
    names, limits = context.trained.class_names, context.image_limits
    wrong = statistics.predicted != statistics.classes
    rows = []
    for index in classes:
        kinds = select_extremes(statistics, index, IMAGES_PER_KIND)
        places = np.concatenate(kinds)
        notes = [f"{value:.4g}" for value in statistics.log_density[places]]
        rows.append(ImageRow(names[index], [images[kind] for kind in kinds], notes, wrong[places].tolist()))
    title = "Typical and odd images by class"
    figure = image_grid_figure(rows, limits=limits, block_headings=["typical", "odd"], title=title)
    caption = (
        "The number under each image is log p(x | class) in nats; framed images are misclassified. Simple "
        "images tend to have a higher density than complex ones."
    )
    gallery = plot(figure, name="gallery", caption=caption)
    places = select_uncertain(statistics, UNCERTAIN_IMAGES)
    pairs = zip(statistics.classes[places], statistics.predicted[places], strict=True)
    notes = [f"{shorten(names[index], 6)} / {shorten(names[predicted], 6)}" for index, predicted in pairs]
    row = ImageRow("", [images[places]], notes, wrong[places].tolist())
    figure = image_grid_figure([row], limits=limits, title="Most uncertain images")
    caption = "Under each image its class and the predicted class; images whose classes differ are framed."
    text = "The images with the highest entropy of the class probabilities, in descending order:"
    return [gallery, Paragraph(text), plot(figure, name="doubtful", caption=caption)]


def _tables(context: ReportContext, statistics: RowStatistics, classes: Sequence[int]) -> list[Part]:
    names, rows = context.trained.class_names, context.validation.rows
    inputs = [column.name for column in context.trained.preprocessor.columns]
    columns = inputs[:MAX_COLUMNS]

    def line(row: int, value: float) -> list[Any]:
        cells = [format_cell(rows.columns[name][row]) for name in columns]
        return [rows.ids[row], f"{value:.2f}", names[statistics.predicted[row]], *cells]

    extremes = [
        [names[index], kind, *line(row, statistics.log_density[row])]
        for index in classes
        for kind, places in zip(
            ("typical", "odd"), select_extremes(statistics, index, ROWS_PER_KIND), strict=True
        )
        for row in places
    ]
    caption = "Typical and odd rows by class."
    if omitted := len(inputs) - len(columns):
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    uncertain = [
        [names[statistics.classes[row]], *line(row, statistics.entropy[row])]
        for row in select_uncertain(statistics, UNCERTAIN_ROWS)
    ]
    density, rest = "log p(x | class)", ["predicted", *columns]
    return [
        Table(["class", "", "id", density, *rest], extremes, caption, right=[density]),
        Table(
            ["class", "id", "entropy", *rest],
            uncertain,
            "The most uncertain rows: entropy of the class probabilities, in nats.",
            right=["entropy"],
        ),
    ]


def score_figure(
    outside: tuple[Images, npt.NDArray[np.float64]] | None,
    inside: tuple[Images, npt.NDArray[np.float64]],
    *,
    limits: Limits,
    threshold: float,
    score: str,
    name: str = "",
) -> Figure:
    """Draw out-of-distribution images by score, and in-distribution images with high scores below them.

    Both are images with their scores, `outside` in the order of `positions_by_quantile`, or None to leave
    them out; `name` is that of its rows. Images above the threshold are flagged, and framed.
    """
    groups = []
    if outside is not None:
        images, values = outside
        parts = positions_by_quantile(values, max(1, len(values) // len(_QUANTILES)))
        labels = [f"other, {quantile}" for quantile in _QUANTILES] if len(parts) > 1 else ["others"]
        groups = [(label, images[part], values[part]) for label, part in zip(labels, parts, strict=True)]
    rows = [
        ImageRow(label, [images], [f"{value:.4g}" for value in values], (values > threshold).tolist())
        for label, images, values in [*groups, ("ordinary, highest", *inside)]
    ]
    return image_grid_figure(
        rows,
        limits=limits,
        title=f"{shorten(name, 40)} by {score}" if name else f"Ordinary images by {score}",
        subtitle=f"the score under each image; flagged ones, above {threshold:.4g}, are framed",
    )

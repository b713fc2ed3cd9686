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
from flowgmm_cli.inference.samples import image_column
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.image_grid import ImageRow, Images, Limits, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import pluralise

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Rows

IMAGES_PER_ROW = 10  # of a figure by score
IMAGES_PER_KIND = 7  # typical or odd images of a class
UNCERTAIN_IMAGES = 14
ROWS_PER_KIND = 2  # typical or odd rows of a class in a table
UNCERTAIN_ROWS = 5
MAX_CLASSES = 12
MAX_COLUMNS = 8
MAX_CELL_LETTERS = 160
_QUANTILES = ("lowest", "lower quarter", "middle", "upper quarter", "highest")


def gallery_section(context: ReportContext) -> list[Part]:
    """Validation rows that are typical of their class, odd ones, and uncertain ones."""
    validation, preprocessor = context.validation, context.trained.preprocessor
    statistics = compute_row_statistics(context.trained, validation.split)
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
    column = image_column(preprocessor.columns)
    inputs = validation.split.inputs
    images = None if inputs is None else preprocessor.to_images(inputs)
    if column is not None and images is not None:
        limits = preprocessor.ranges.get(column.name)
        return [*parts, *_image_parts(context, statistics, images.numpy(), classes, limits)]
    if validation.rows is None:
        raise UnavailableError("Single rows are shown for the run's own data only, not for a file.")
    return [*parts, *_tables(context, statistics, validation.rows, classes)]


def _image_parts(
    context: ReportContext, statistics: RowStatistics, images: Images, classes: Sequence[int], limits: Limits
) -> list[Part]:
    names = context.trained.class_names
    wrong = statistics.predicted != statistics.classes
    rows = []
    for index in classes:
        typical, odd = select_extremes(statistics, index, IMAGES_PER_KIND)
        indices = np.concatenate([typical, odd])
        odd_columns = range(IMAGES_PER_KIND, IMAGES_PER_KIND + len(odd))
        rows.append(
            ImageRow(
                names[index],
                images[indices],
                positions=[*range(len(typical)), *odd_columns],
                notes=[f"{value:.4g}" for value in statistics.log_density[indices]],
                framed=wrong[indices].tolist(),
            )
        )
    blocks = [("typical", IMAGES_PER_KIND), ("odd", IMAGES_PER_KIND)]
    figure = image_grid_figure(rows, limits=limits, blocks=blocks, title="Typical and odd images by class")
    caption = (
        "The number under each image is log p(x | class) in nats; framed images are misclassified. Simple "
        "images tend to have a higher density than complex ones."
    )
    gallery = plot(figure, name="gallery", caption=caption)
    indices = select_uncertain(statistics, UNCERTAIN_IMAGES)
    notes = [
        f"{shorten(names[statistics.classes[i]], 6)} / {shorten(names[statistics.predicted[i]], 6)}"
        for i in indices
    ]
    row = ImageRow("", images[indices], notes=notes, framed=wrong[indices].tolist())
    figure = image_grid_figure([row], limits=limits, title="Most uncertain images")
    caption = "Under each image its class and the predicted class; images whose classes differ are framed."
    text = "The images with the highest entropy of the class probabilities, in descending order:"
    return [gallery, Paragraph(text), plot(figure, name="doubtful", caption=caption)]


def _tables(
    context: ReportContext, statistics: RowStatistics, rows: Rows, classes: Sequence[int]
) -> list[Part]:
    names = context.trained.class_names
    inputs = [column.name for column in context.trained.preprocessor.columns]
    columns = inputs[:MAX_COLUMNS]

    def cells(row: int) -> list[Any]:
        return [_format(rows.columns[name][row]) for name in columns]

    table = []
    for index in classes:
        typical, odd = select_extremes(statistics, index, ROWS_PER_KIND)
        for kind, indices in (("typical", typical), ("odd", odd)):
            for row in indices:
                density, predicted = f"{statistics.log_density[row]:.2f}", names[statistics.predicted[row]]
                table.append([names[index], kind, rows.ids[row], density, predicted, *cells(row)])
    caption = "Typical and odd rows by class."
    if omitted := len(inputs) - len(columns):
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    headings = ["class", "", "id", "log p(x | class)", "predicted", *columns]
    extreme_table = Table(headings, table, caption, right=["log p(x | class)"])
    table = []
    for row in select_uncertain(statistics, UNCERTAIN_ROWS):
        pair = names[statistics.classes[row]], names[statistics.predicted[row]]
        table.append([*pair, rows.ids[row], f"{statistics.entropy[row]:.2f}", *cells(row)])
    caption = "The most uncertain rows: entropy of the class probabilities, in nats."
    headings = ["class", "predicted", "id", "entropy", *columns]
    return [extreme_table, Table(headings, table, caption, right=["entropy"])]


def _format(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        value = " ".join(f"{number:.3g}" for number in value.ravel()[:MAX_COLUMNS].tolist())
    elif isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return shorten(" ".join(str(value).split()), MAX_CELL_LETTERS)


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
    rows = []
    if outside is not None:
        images, values = outside
        groups = positions_by_quantile(values, max(1, len(values) // len(_QUANTILES)))
        labels = [f"other, {quantile}" for quantile in _QUANTILES] if len(groups) > 1 else ["others"]
        for label, group in zip(labels, groups, strict=True):
            rows.append(_score_row(label, images[group], values[group], threshold))
    rows.append(_score_row("ordinary, highest", *inside, threshold))
    return image_grid_figure(
        rows,
        limits=limits,
        title=f"{shorten(name, 40)} by {score}" if name else f"Ordinary images by {score}",
        subtitle=f"the score under each image; flagged ones, above {threshold:.4g}, are framed",
    )


def _score_row(label: str, images: Images, values: npt.NDArray[np.float64], threshold: float) -> ImageRow:
    notes = [f"{value:.4g}" for value in values]
    return ImageRow(label, images, notes=notes, framed=(values > threshold).tolist())

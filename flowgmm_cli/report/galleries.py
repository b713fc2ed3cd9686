"""Galleries of rows: the typical and the odd ones of each class, doubtful ones, and rows by score."""

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
from flowgmm_cli.inference.sampling import image_column
from flowgmm_cli.report.context import ReportContext, UnavailableError
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.image_grid import ImageRow, Images, grid_figure
from flowgmm_cli.report.page import Part, Prose, Table, picture
from flowgmm_cli.report.text import count

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Rows

    Places = npt.NDArray[np.int64]

EACH = 10
"""Images of a row of a figure by score."""
_CLASSES = 12  # classes that are shown
_EACH = 7  # pictures of a kind and class
_DOUBTFUL = 14
_LINES = 2  # rows of a table of a kind and class
_COLUMNS = 8  # columns of a table that there is room for
_TEXT = 160  # letters of a cell
_QUANTILES = ("lowest", "lower quarter", "middle", "upper quarter", "highest")


def gallery(found: ReportContext) -> list[Part]:
    """Held-out rows that are typical of their class, odd ones, and those that the model is unsure about."""
    held = found.held
    told = compute_row_statistics(found.trained, held.split)
    shown = [place for place in range(len(found.trained.class_names)) if (told.classes == place).any()]
    left = len(shown) - _CLASSES
    parts: list[Part] = [
        Prose(
            f"Of each class the {held.name} that are densest under it, log p(x | class), and those that are "
            "least dense: what the model takes to be typical, and what it finds odd. The class is that of "
            "the label, or the predicted one where there is none."
        )
    ]
    if left > 0:
        parts.append(Prose(f"Not shown: {count(left, 'further class')}.", "note"))
    column = image_column(found.trained.preprocessor.featuriser.columns)
    images = None if held.split.inputs is None else found.trained.preprocessor.images(held.split.inputs)
    if column is not None and images is not None:
        limits = found.trained.preprocessor.featuriser.ranges.get(column.name)
        return [*parts, *_pictures(found, told, images.numpy(), shown[:_CLASSES], limits)]
    if held.rows is None:
        raise UnavailableError("Single rows are shown of the run's own data only, not of a file.")
    return [*parts, *_tables(found, told, held.rows, shown[:_CLASSES])]


def score_figure(
    outside: tuple[Images, npt.NDArray[np.float64]] | None,
    inside: tuple[Images, npt.NDArray[np.float64]],
    *,
    limits: tuple[float, float] | None,
    threshold: float,
    score: str,
    name: str = "",
) -> Figure:
    """Images of other rows by score, with ordinary images of high scores beside them.

    Args:
        outside: as many images as `by_quantile` gives positions, in its order, and their scores; None where
            there are no other rows.
        inside: ordinary images, and their scores.
        limits: values of black and white.
        threshold: images above it are flagged, and framed.
        score: its name.
        name: what the other rows are.
    """
    rows = []
    if outside is not None:
        images, values = outside
        lots = positions_by_quantile(values, max(1, len(values) // len(_QUANTILES)))
        labels = _QUANTILES if len(lots) > 1 else ("others",)
        for label, lot in zip(labels, lots, strict=True):
            rows.append(
                _scored(f"other, {label}" if len(lots) > 1 else label, images[lot], values[lot], threshold)
            )
    rows.append(_scored("ordinary, highest", *inside, threshold))
    return grid_figure(
        rows,
        limits=limits,
        title=f"{shorten(name, 40)} by {score}" if name else f"Ordinary images by {score}",
        subtitle=f"the score under each image; flagged ones, above {threshold:.4g}, are framed",
    )


def _scored(label: str, images: Images, values: npt.NDArray[np.float64], threshold: float) -> ImageRow:
    notes = [f"{value:.4g}" for value in values]
    return ImageRow(label, images, notes=notes, framed=(values > threshold).tolist())


def _pictures(
    found: ReportContext,
    told: RowStatistics,
    images: Images,
    shown: Sequence[int],
    limits: tuple[float, float] | None,
) -> list[Part]:
    names = found.trained.class_names
    rows = []
    for index in shown:
        ends = select_extremes(told, index, _EACH)
        places = np.concatenate([ends.typical, ends.odd])
        rows.append(
            ImageRow(
                names[index],
                images[places],
                places=[*range(len(ends.typical)), *range(_EACH, _EACH + len(ends.odd))],
                notes=[f"{told.log_density[place]:.4g}" for place in places],
                framed=[bool(told.predicted[place] != told.classes[place]) for place in places],
            )
        )
    blocks = [("typical", _EACH), ("odd", _EACH)]
    figure = grid_figure(rows, limits=limits, blocks=blocks, title="Typical and odd images by class")
    caption = (
        "Under each image log p(x | class) in nats; an image with a frame was taken for another class. The "
        "density of an image has much to do with how simple it is: plain shapes are dense, busy ones are not."
    )
    parts: list[Part] = [picture(figure, name="gallery", caption=caption)]
    most = select_uncertain(told, _DOUBTFUL)
    row = ImageRow(
        "",
        images[most],
        notes=[
            f"{shorten(names[told.classes[place]], 6)} / {shorten(names[told.predicted[place]], 6)}"
            for place in most
        ],
        framed=[bool(told.predicted[place] != told.classes[place]) for place in most],
    )
    figure = grid_figure([row], limits=limits, title="Images that the model is least sure about")
    caption = "Below each image its class and the predicted one; those that differ are framed."
    said = Prose("The images with the largest entropy of the class probabilities, the largest first:")
    return [*parts, said, picture(figure, name="doubtful", caption=caption)]


def _tables(found: ReportContext, told: RowStatistics, rows: Rows, shown: Sequence[int]) -> list[Part]:
    names = found.trained.class_names
    inputs = [one.name for one in found.trained.preprocessor.featuriser.columns]
    listed = inputs[:_COLUMNS]

    def cells(place: int) -> list[Any]:
        return [_cell(rows.columns[name][place]) for name in listed]

    lines = []
    for index in shown:
        ends = select_extremes(told, index, _LINES)
        for word, places in (("typical", ends.typical), ("odd", ends.odd)):
            for place in places:
                taken = names[told.predicted[place]]
                lines.append(
                    [
                        names[index],
                        word,
                        rows.ids[place],
                        f"{told.log_density[place]:.2f}",
                        taken,
                        *cells(place),
                    ]
                )
    columns = ["class", "", "id", "log p(x | class)", "predicted", *listed]
    more = len(inputs) - len(listed)
    rest = f" Not shown: {count(more, 'further column')}." if more else ""
    right = ["log p(x | class)"]
    first = Table(columns, lines, f"Typical and odd rows by class.{rest}", right=right)
    lines = [
        [
            names[told.classes[place]],
            names[told.predicted[place]],
            rows.ids[place],
            f"{told.entropy[place]:.2f}",
            *cells(place),
        ]
        for place in select_uncertain(told, 2 * _LINES + 1)
    ]
    columns = ["class", "predicted", "id", "entropy", *listed]
    said = "The rows that the model is least sure about: entropy of the class probabilities, in nats."
    return [first, Table(columns, lines, said, right=["entropy"])]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, np.ndarray):
        value = " ".join(f"{one:.3g}" for one in value.ravel()[:_COLUMNS].tolist())
    elif isinstance(value, float | np.floating):
        return f"{value:.4g}"
    return shorten(" ".join(str(value).split()), _TEXT)

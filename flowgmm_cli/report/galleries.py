"""Galleries of rows: typical, atypical and uncertain rows of each class, and images by score."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import entropy

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.formatting import pluralise
from flowgmm_cli.inference.pseudo_ood import transforms_log_det
from flowgmm_cli.model import Model
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import ImageRow, Images, Limits, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import format_input, shorten

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    Floats = npt.NDArray[np.float64]
    Places = npt.NDArray[np.int64]

IMAGES_PER_ROW = 10  # of a figure by score
IMAGES_PER_KIND = 7  # typical or odd images of a class
UNCERTAIN_IMAGES = 14
ROWS_PER_KIND = 2  # typical or odd rows of a class in a table
UNCERTAIN_ROWS = 5
MAX_CLASSES = 12
MAX_COLUMNS = 8
QUANTILES = {"lowest": 0.0, "lower quarter": 0.25, "middle": 0.5, "upper quarter": 0.75, "highest": 1.0}
"""Quantiles of a score around which rows are shown."""


def gallery_section(context: ReportContext) -> Iterator[Part]:
    """Validation rows that are typical of their class, odd ones, and uncertain ones."""
    model, validation = context.trained.model, context.validation
    statistics = compute_row_statistics(model, validation.encoded, validation.rows.labels)
    classes = np.unique(statistics.classes).tolist()
    yield Paragraph(
        f"For each class the {validation.name} with the highest and the lowest class-conditional density, "
        "log p(x | class): the most typical and the oddest rows by the model. The class is the label, or the "
        "predicted class of rows without a label."
    )
    if omitted := len(classes[MAX_CLASSES:]):
        yield Paragraph(f"Not shown: {pluralise(omitted, 'further class')}.", "note")
        classes = classes[:MAX_CLASSES]
    if context.trained.image is None or (images := validation.encoded.images) is None:
        yield from _tables(context, statistics, classes)
    else:
        yield from _image_parts(context, statistics, images.numpy(), classes)


def _image_parts(
    context: ReportContext, statistics: RowStatistics, images: Images, classes: Sequence[int]
) -> Iterator[Part]:
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
    yield plot(figure, name="gallery", caption=caption)
    places = select_uncertain(statistics, UNCERTAIN_IMAGES)
    pairs = zip(statistics.classes[places], statistics.predicted[places], strict=True)
    notes = [f"{shorten(names[index], 10)}\n→ {shorten(names[predicted], 9)}" for index, predicted in pairs]
    row = ImageRow("", [images[places]], notes, wrong[places].tolist())
    figure = image_grid_figure([row], limits=limits, title="Most uncertain images")
    caption = "Under each image its class, then the predicted class; images whose classes differ are framed."
    yield Paragraph("The images with the highest entropy of the class probabilities, in descending order:")
    yield plot(figure, name="doubtful", caption=caption)


def _tables(context: ReportContext, statistics: RowStatistics, classes: Sequence[int]) -> Iterator[Part]:
    names, rows = context.trained.class_names, context.validation.rows
    inputs = context.trained.preprocessor.columns
    columns = inputs[:MAX_COLUMNS]

    def line(row: int, value: float) -> list[Any]:
        cells = [format_input(rows, column, row) for column in columns]
        return [rows.ids[row], f"{value:.2f}", names[statistics.predicted[row]], *cells]

    extremes: list[list[Any]] = []
    for index in classes:
        kinds = zip(("typical", "odd"), select_extremes(statistics, index, ROWS_PER_KIND), strict=True)
        for kind, places in kinds:
            extremes += [[names[index], kind, *line(row, statistics.log_density[row])] for row in places]
    caption = "Typical and odd rows by class."
    if omitted := len(inputs) - len(columns):
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    uncertain = [
        [names[statistics.classes[row]], *line(row, statistics.entropy[row])]
        for row in select_uncertain(statistics, UNCERTAIN_ROWS)
    ]
    density, rest = "log p(x | class)", ["predicted", *(column.name for column in columns)]
    yield Table(["class", "kind", "id", density, *rest], extremes, caption, right=[density])
    caption = "The most uncertain rows: entropy of the class probabilities, in nats."
    yield Table(["class", "id", "entropy", *rest], uncertain, caption, right=["entropy"])


@dataclass(frozen=True)
class RowStatistics:
    """Class, density and uncertainty of rows, each `(N,)`."""

    classes: Places  # the label of each row, or the predicted class if it has none
    predicted: Places
    log_density: Floats  # `log p(x | k)` of that class in nats, including the transforms' log-determinant
    entropy: Floats  # of the calibrated posterior, in nats


def compute_row_statistics(
    model: Model, rows: ScoreInputs, labels: npt.NDArray[np.integer[Any]]
) -> RowStatistics:
    """Compute the statistics of rows with labels `(N,)`, -1 where unknown."""
    log_posterior = rows.log_posterior.numpy()
    predicted = log_posterior.argmax(1)
    classes = np.where(labels >= 0, labels, predicted)
    log_weights = [part.mixture.log_weights.detach().double().cpu() for part in model.parts]
    log_prior = torch.stack(log_weights).mean(0).numpy()
    log_joint = rows.latents.class_log_prob.double().numpy()[np.arange(len(rows)), classes]
    log_det = rows.latents.log_det.double() + transforms_log_det(rows)
    log_density = log_joint + log_det.numpy() - log_prior[classes]
    return RowStatistics(classes, predicted, log_density, entropy(np.exp(log_posterior), axis=1))


def select_extremes(statistics: RowStatistics, class_index: int, count: int) -> tuple[Places, Places]:
    """Return at most `count` rows of a class with its highest density, and as many with the lowest.

    The highest and the lowest density come first; no row is in both.
    """
    rows = np.flatnonzero((statistics.classes == class_index) & np.isfinite(statistics.log_density))
    order = rows[np.argsort(-statistics.log_density[rows], kind="stable")]
    typical = order[: min(count, -(-len(order) // 2))]
    return typical, order[len(typical) :][::-1][:count]


def select_uncertain(statistics: RowStatistics, count: int) -> Places:
    """Return the rows of largest entropy, largest first."""
    return np.argsort(-statistics.entropy, kind="stable")[:count]


def positions_by_quantile(values: Floats, count: int) -> list[Places]:
    """Return up to `count` positions of values around each of `QUANTILES`, ascending and disjoint.

    >>> [group.tolist() for group in positions_by_quantile(np.array([5.0, 1, 4, 2, 3, 0]), 1)]
    [[5], [1], [3], [2], [0]]
    """
    order = np.argsort(values, kind="stable")
    count = min(count, len(order) // len(QUANTILES))
    starts = [round(share * (len(order) - count)) for share in QUANTILES.values()]
    return [order[start : start + count] for start in starts] if count else [order]


def score_figure(
    outside: tuple[Images, Floats] | None,
    inside: tuple[Images, Floats],
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
        parts = positions_by_quantile(values, max(1, len(values) // len(QUANTILES)))
        labels = [f"other, {quantile}" for quantile in QUANTILES] if len(parts) > 1 else ["others"]
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

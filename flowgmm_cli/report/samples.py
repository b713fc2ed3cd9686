"""Generated rows: the section of samples, and grids of generated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from flowgmm_cli.formatting import pluralise
from flowgmm_cli.inference.samples import GeneratedRows, nearest_text_columns
from flowgmm_cli.inference.sampling import TEMPERATURE, draw_samples
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import ImageRow, Images, column_images, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import format_cell, shorten
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Rows
    from flowgmm_cli.trained_model import TrainedModel

MAX_CLASSES = 12
MAX_COLUMNS = 12
MAX_TEXT_LETTERS = 280
IMAGES_PER_CELL = 6  # of a class and temperature
ROWS_PER_CLASS = 2
TEMPERATURES = (0.3, TEMPERATURE, 1.0)
SampleMode = Literal["draw", "means", "interpolate", "transfer", "features"]


def samples_section(context: ReportContext) -> Iterator[Part]:
    """Samples of each class."""
    trained, is_image = context.trained, context.trained.image is not None
    classes = list(range(min(len(trained.class_names), MAX_CLASSES)))
    temperature = "the temperatures above them" if is_image else f"temperature {TEMPERATURE:g}"
    encoded = trained.preprocessor.feature_encoder.encoded
    origin = "None of these rows is in the data."
    if encoded:
        kind = encoded[0].kind
        origin = f"A sampled vector is no {kind}; the training {kind}s nearest to it represent it."
    yield Paragraph(
        "Latent vectors are drawn from the Gaussians of the classes and mapped back through the flow, at "
        f"{temperature} (1 is the model's own spread; lower is closer to the mean of the class). {origin}"
    )
    if omitted := len(trained.class_names) - len(classes):
        yield Paragraph(f"Not shown: {pluralise(omitted, 'further class')}.", "note")
    if is_image:
        yield _images(trained, classes)
    else:
        rows = _draw(trained, ROWS_PER_CLASS, classes, TEMPERATURE)
        yield _texts(context, rows) if encoded else _table(rows)


def _draw(trained: TrainedModel, count: int, classes: list[int], temperature: float) -> GeneratedRows:
    generator = torch.Generator().manual_seed(derive_seed(trained.recipe.run.seed, "report"))
    return draw_samples(trained, count, classes=classes, temperature=temperature, generator=generator)


def _images(trained: TrainedModel, classes: list[int]) -> Part:
    batches = [_draw(trained, IMAGES_PER_CELL, classes, value) for value in TEMPERATURES]
    rows = GeneratedRows.concatenate(batches, {"temperature": TEMPERATURES})
    caption = (
        "Each line is a class, each image a sample of it; the same draws at three temperatures. If the "
        "images of a line look like their class and differ from each other, the model has learned the class "
        "and its variation."
    )
    figure = samples_figure(rows, title="Samples by class and temperature")
    return plot(figure, name="samples", caption=caption)


def _texts(context: ReportContext, generated: GeneratedRows) -> Part:
    encoder, train = context.trained.preprocessor.feature_encoder, context.rows.train
    neighbours = nearest_text_columns(encoder, generated.features, train, context.data_context, k=2)
    form = partial(format_cell, number=".3f", max_letters=MAX_TEXT_LETTERS)
    rows = [
        [context.trained.class_names[index], *map(form, cells)]
        for index, *cells in zip(generated.classes, *neighbours.values(), strict=True)
    ]
    columns = ["class", *(name.replace("_2", ", second").replace("_", " ") for name in neighbours)]
    caption = (
        "Such a model samples vectors of an encoder; the table shows the training texts or images nearest "
        "to each sample. Distances range from 0 (the same direction) to 2. If they belong to the class of "
        "their line, the model has learned the class."
    )
    return Table(columns, rows, caption, right=[name for name in columns if name.startswith("distance")])


def _table(generated: GeneratedRows) -> Part:
    table = generated.table()
    label = "sample_class" if "sample_class" in table else "class"
    inputs = [name for name in table if name not in ("id", "sample_id", "class", "sample_class")]
    names = inputs[:MAX_COLUMNS]
    rows = [
        [table[label][row], *(format_cell(table[name][row], max_letters=MAX_TEXT_LETTERS) for name in names)]
        for row in range(len(generated))
    ]
    caption = (
        "Rows in the columns and units of the input. log_density is the log-likelihood of the row (higher: "
        "more typical), confidence the probability that the row belongs to its class."
    )
    if omitted := len(inputs) - len(names):
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    numeric = [name for name in names if np.issubdtype(table[name].dtype, np.number)]
    return Table(["class", *names], rows, caption, right=numeric)


def samples_figure(
    rows: GeneratedRows,
    mode: SampleMode = "draw",
    *,
    origin: Rows | None = None,
    title: str = "",
    subtitle: str = "",
) -> Figure:
    """Draw generated images in a grid.

    Args:
        rows: the images.
        mode: the rows of the grid. `draw` and `means`: classes, with a block for each value of a column
            `temperature`; few means share a row. `interpolate`: paths, by the column `path` if there are
            several. `features`: input rows, each with a column for every shift of the channel. `transfer`:
            given images above their transfers to a class, or to the left of those to every class.
        origin: the rows that the images were transferred from.
        title: above the grid; by default the name of the recipe.
        subtitle: a line under it.
    """
    trained = rows.trained
    column = trained.image
    if column is None:
        raise ValueError("not a model of images")
    images = column_images(column, rows.rows.columns[column.name])
    extra, names = rows.rows.extras, trained.class_names
    headings: Sequence[str] = ()
    block_headings: Sequence[str] = ()
    if mode == "interpolate":
        steps = np.unique(extra["t"])
        labels = extra.get("path", np.full(len(rows), ""))
        grid = _split_rows(labels, images, len(steps))
        headings, subtitle = [f"{value:.2g}" for value in steps], "from row to row"
    elif mode == "features":
        amounts = extra["amount"][: len(np.unique(extra["amount"]))]
        grid = _split_rows(rows.rows.ids, images, len(amounts))
        headings = ["0" if abs(amount) < 1e-9 else f"{amount:+.2g}" for amount in amounts]
    elif mode == "transfer" and origin is not None:
        originals, origins = column_images(column, origin.columns[column.name]), extra["from"]
        known = [names[index] if index >= 0 else "" for index in origin.labels.tolist()]
        if len(rows) == len(originals):
            target = names[int(rows.classes[0])] if len(rows) else ""
            notes = [_label_origin(*pair, "\n→ ") for pair in zip(known, origins, strict=True)]
            grid = [ImageRow("given", [originals], notes), ImageRow(f"as {target}", [images])]
            subtitle = "under the given images: class → predicted class"
        else:
            parts = _split_rows(origins, images, len(names))
            grid = [
                ImageRow(
                    _label_origin(name, part.label, " → "),
                    [original[None], *part.blocks],
                    framed=[False, *(n == part.label for n in names)],
                )
                for part, original, name in zip(parts, originals, known, strict=True)
            ]
            headings = ["given", *names]
            subtitle = "class → predicted class, which is framed"
    elif mode == "means" and len(rows) == len(names) <= 16:
        grid, headings, subtitle = [ImageRow("", [images])], names, "means of the classes"
    else:
        temperatures = extra.get("temperature", np.zeros(len(rows)))
        blocks = list(dict.fromkeys(temperatures.tolist()))
        grid = [
            ImageRow(
                names[index], [images[(rows.classes == index) & (temperatures == value)] for value in blocks]
            )
            for index in np.unique(rows.classes)
        ]
        block_headings = [f"temperature {value:g}" for value in blocks] if len(blocks) > 1 else ()
        subtitle = "means of the classes" if mode == "means" else subtitle
    return image_grid_figure(
        grid,
        limits=trained.preprocessor.ranges.get(column.name),
        headings=headings,
        block_headings=block_headings,
        title=title or trained.recipe.name,
        subtitle=subtitle,
    )


def _label_origin(name: str, predicted: str, arrow: str) -> str:
    """Format the class of a row, if it is known, and the predicted class."""
    return f"{shorten(name, 10)}{arrow}{shorten(predicted, 10)}" if name else shorten(predicted, 10)


def _split_rows(labels: npt.NDArray[np.object_], images: Images, size: int) -> list[ImageRow]:
    """Split consecutive images into rows of one size, with the label of each row's first image."""
    starts = range(0, len(images), max(size, 1))
    return [ImageRow(str(labels[start]), [images[start : start + size]]) for start in starts]

"""Generated rows: the section of samples, and grids of generated images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.inference.nearest_texts import nearest_text_columns
from flowgmm_cli.inference.samples import GeneratedRows, concatenate_generated, image_column
from flowgmm_cli.inference.sampling import TEMPERATURE, draw_samples
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.image_grid import ImageRow, Limits, column_images, image_grid_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import pluralise
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.figure import Figure

    from flowgmm_cli.api import Column
    from flowgmm_cli.trained_model import TrainedModel

MAX_CLASSES = 12
MAX_COLUMNS = 12
MAX_TEXT_LETTERS = 280
IMAGES_PER_CELL = 6  # of a class and temperature
ROWS_PER_CLASS = 2
TEMPERATURES = (0.3, TEMPERATURE, 1.0)


def samples_section(context: ReportContext) -> list[Part]:
    """Samples of each class."""
    trained = context.trained
    columns = trained.preprocessor.columns
    classes = list(range(min(len(trained.class_names), MAX_CLASSES)))
    column = image_column(columns)
    temperature = "the temperatures above them" if column else f"temperature {TEMPERATURE:g}"
    is_text = any(item.kind == "text" for item in columns)
    origin = "None of these rows is in the data."
    if is_text:
        origin = "A sampled vector is no text; the training texts nearest to it represent it."
    introduction = (
        "Latent vectors are drawn from the Gaussians of the classes and mapped back through the flow, at "
        f"{temperature} (1 is the model's own spread; lower is closer to the mean of the class). {origin}"
    )
    parts: list[Part] = [Paragraph(introduction)]
    if len(classes) < len(trained.class_names):
        omitted = pluralise(len(trained.class_names) - len(classes), "further class")
        parts.append(Paragraph(f"Not shown: {omitted}.", "note"))
    if column is not None:
        return [*parts, _images(trained, column, classes)]
    rows = _draw(trained, ROWS_PER_CLASS, classes, TEMPERATURE)
    return [*parts, _texts(context, rows) if is_text else _table(rows)]


def _draw(trained: TrainedModel, count: int, classes: list[int], temperature: float) -> GeneratedRows:
    generator = torch.Generator().manual_seed(derive_seed(trained.recipe.run.seed, "report"))
    return draw_samples(trained, count, classes=classes, temperature=temperature, generator=generator)


def _images(trained: TrainedModel, column: Column, classes: list[int]) -> Part:
    batches = [_draw(trained, IMAGES_PER_CELL, classes, value) for value in TEMPERATURES]
    rows = concatenate_generated(batches, extra_columns={"temperature": TEMPERATURES})
    limits = trained.preprocessor.ranges.get(column.name)
    caption = (
        "Each line is a class, each image a sample of it; the same draws at three temperatures. If the "
        "images of a line look like their class and differ from each other, the model has learned the class "
        "and its variation."
    )
    figure = samples_figure(rows, column, limits=limits, title="Samples by class and temperature")
    return plot(figure, name="samples", caption=caption)


def _texts(context: ReportContext, generated: GeneratedRows) -> Part:
    trained = context.trained
    encoder, train = trained.preprocessor.feature_encoder, context.rows.train
    neighbours = nearest_text_columns(encoder, generated.features, train, context.data_context, k=2)
    rows = [
        [trained.class_names[index], *(_format(cell) for cell in cells)]
        for index, *cells in zip(generated.classes, *neighbours.values(), strict=True)
    ]
    columns = ["class", *(name.replace("_2", ", second").replace("_", " ") for name in neighbours)]
    caption = (
        "A model of texts samples embedding vectors, not words; the table shows the training texts nearest "
        "to each sample. Distances range from 0 (the same direction) to 2. If the texts belong to the class "
        "of their line, the model has learned the topic of the class."
    )
    return Table(columns, rows, caption, right=[name for name in columns if name.startswith("distance")])


def _table(generated: GeneratedRows) -> Part:
    table = generated.table()
    label = "sample_class" if "sample_class" in table else "class"
    inputs = [name for name in table if name not in ("id", "sample_id", "class", "sample_class")]
    names = inputs[:MAX_COLUMNS]
    rows = [
        [table[label][row], *(_format(table[name][row], ".4g") for name in names)]
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


def _format(value: Any, number: str = ".3f") -> str:
    if isinstance(value, float | np.floating):
        return f"{value:{number}}"
    return shorten(str(value), MAX_TEXT_LETTERS)


def samples_figure(
    rows: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str = ""
) -> Figure:
    """Draw a row for each class, with a block of columns for each value of a column `temperature`."""
    images = column_images(column, rows.cells[column.name])
    temperature = rows.extra_columns.get("temperature", np.zeros(len(rows)))
    temperatures = list(dict.fromkeys(temperature.tolist()))
    classes = sorted(set(rows.classes.tolist()))
    cells = [
        [np.flatnonzero((rows.classes == index) & (temperature == value)) for value in temperatures]
        for index in classes
    ]
    widths = [max((len(parts[block]) for parts in cells), default=0) for block in range(len(temperatures))]
    starts = np.cumsum([0, *widths]).tolist()
    grid = [
        ImageRow(
            rows.class_names[index],
            images[np.concatenate(parts)],
            positions=[starts[block] + i for block, part in enumerate(parts) for i in range(len(part))],
        )
        for index, parts in zip(classes, cells, strict=True)
    ]
    blocks = [(f"temperature {value:g}", width) for value, width in zip(temperatures, widths, strict=True)]
    return image_grid_figure(
        grid, limits=limits, blocks=blocks if len(blocks) > 1 else (), title=title, subtitle=subtitle
    )


def means_figure(rows: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """Draw the means of the classes: in one row if there are few, else in a row for each class."""
    subtitle = "means of the classes"
    if not len(rows) == len(rows.class_names) <= 16:
        return samples_figure(rows, column, limits=limits, title=title, subtitle=subtitle)
    grid = [ImageRow("", column_images(column, rows.cells[column.name]))]
    return image_grid_figure(grid, limits=limits, headings=rows.class_names, title=title, subtitle=subtitle)


def paths_figure(rows: GeneratedRows, column: Column, *, limits: Limits, title: str) -> Figure:
    """Draw a row for each interpolation path; the column `path` has their names if there are several."""
    images = column_images(column, rows.cells[column.name])
    names = rows.extra_columns.get("path", np.array([""] * len(rows), dtype=object))
    t = rows.extra_columns["t"]
    starts = np.flatnonzero(t == 0).tolist()
    ends = [*starts[1:], len(rows)]
    grid = [ImageRow(str(names[start]), images[start:end]) for start, end in zip(starts, ends, strict=True)]
    headings = [f"{value:.2g}" for value in t[: ends[0]]] if starts else []
    return image_grid_figure(grid, limits=limits, headings=headings, title=title, subtitle="from row to row")


def transfer_figure(
    rows: GeneratedRows, column: Column, originals: npt.NDArray[Any], *, limits: Limits, title: str
) -> Figure:
    """Draw original images with their transfers: below them for one class, to their right for all."""
    images, originals = column_images(column, rows.cells[column.name]), column_images(column, originals)
    origins, names = rows.extra_columns["from"], rows.class_names
    if len(rows) == len(originals):
        target = names[int(rows.classes[0])] if len(rows) else ""
        grid = [ImageRow("given", originals), ImageRow(f"as {target}", images)]
        return image_grid_figure(grid, limits=limits, headings=list(origins), title=title)
    grid = []
    for start, (origin, original) in enumerate(zip(origins[:: len(names)], originals, strict=True)):
        transfers = images[start * len(names) : (start + 1) * len(names)]
        framed = [False, *(name == origin for name in names)]
        grid.append(ImageRow(str(origin), np.concatenate([original[None], transfers]), framed=framed))
    return image_grid_figure(
        grid,
        limits=limits,
        blocks=[("", 1), ("", len(names))],
        headings=["given", *names],
        title=title,
        subtitle="given images, and each transferred to every class; the predicted class is framed",
    )


def features_figure(
    rows: GeneratedRows, column: Column, *, limits: Limits, title: str, subtitle: str
) -> Figure:
    """Draw a row for each input row, with a column for each amount by which a channel is shifted."""
    images, amounts = column_images(column, rows.cells[column.name]), rows.extra_columns["amount"]
    steps = len(np.unique(amounts))
    grid = [
        ImageRow(str(rows.ids[start]), images[start : start + steps]) for start in range(0, len(rows), steps)
    ]
    headings = ["0" if abs(amount) < 1e-9 else f"{amount:+.2g}" for amount in amounts[:steps]]
    return image_grid_figure(grid, limits=limits, headings=headings, title=title, subtitle=subtitle)

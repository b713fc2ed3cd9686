"""The section of samples: images, table rows, or the training texts nearest to sampled vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.inference.nearest_texts import nearest_text_columns
from flowgmm_cli.inference.samples import GeneratedRows, concatenate_generated, image_column
from flowgmm_cli.inference.sampling import TEMPERATURE, draw_samples
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.generated_images import samples_figure
from flowgmm_cli.report.page import Paragraph, Part, Table, plot
from flowgmm_cli.report.text import pluralise
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
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
    introduction = (
        "Latent vectors are drawn from the Gaussians of the classes and mapped back through the flow, at "
        f"{temperature} (1 is the model's own spread; lower is closer to the mean of the class). "
    )
    introduction += (
        "A sampled vector is no text; the training texts nearest to it represent it."
        if is_text
        else "None of these rows is in the data."
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
    neighbours = nearest_text_columns(
        trained.preprocessor.feature_encoder, generated.features, context.rows.train, context.context, k=2
    )
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
    names = [name for name in table if name not in ("id", "sample_id", "class", "sample_class")]
    omitted = len(names) - MAX_COLUMNS
    names = names[:MAX_COLUMNS]
    rows = [
        [table[label][row], *(_format(table[name][row], ".4g") for name in names)]
        for row in range(len(generated))
    ]
    caption = (
        "Rows in the columns and units of the input. log_density is the log-likelihood of the row (higher: "
        "more typical), confidence the probability that the row belongs to its class."
    )
    if omitted > 0:
        caption += f" Not shown: {pluralise(omitted, 'further column')}."
    numeric = [name for name in names if np.issubdtype(table[name].dtype, np.number)]
    return Table(["class", *names], rows, caption, right=numeric)


def _format(value: Any, number: str = ".3f") -> str:
    if isinstance(value, float | np.floating):
        return f"{value:{number}}"
    return shorten(str(value), MAX_TEXT_LETTERS)

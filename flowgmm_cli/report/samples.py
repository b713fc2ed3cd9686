"""The section of samples: what the model takes each class to look like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from flowgmm_cli.inference.nearest_texts import text_columns
from flowgmm_cli.inference.sampling import (
    TEMPERATURE,
    GeneratedRows,
    concatenate_generated,
    draw_samples,
    image_column,
)
from flowgmm_cli.report.context import ReportContext
from flowgmm_cli.report.figures import shorten
from flowgmm_cli.report.page import Part, Prose, Table, picture
from flowgmm_cli.report.pictures import samples_figure
from flowgmm_cli.report.text import count
from flowgmm_cli.seeds import derive_seed

if TYPE_CHECKING:
    from flowgmm_cli.api import Column
    from flowgmm_cli.trained import TrainedModel

_CLASSES = 12  # classes that samples are shown of
_EACH = 6  # images of a class and temperature
_TEMPERATURES = (0.3, TEMPERATURE, 1.0)
_COLUMNS = 12  # columns of a table that there is room for
_TEXT = 280  # letters of a text


def samples(found: ReportContext) -> list[Part]:
    """Rows that the model makes, by class: pictures, rows of a table, or the texts nearest to them."""
    trained = found.trained
    classes = list(range(min(len(trained.class_names), _CLASSES)))
    column = image_column(trained.preprocessor.featuriser.columns)
    shown = "the temperatures above them" if column is not None else f"temperature {TEMPERATURE:g}"
    how = (
        "Drawn around where each class lies in the latent space and mapped back through the flow, at "
        f"{shown} (1 is the model's own spread, less stays closer to the middle of the class). "
    )
    texts = any(one.kind == "text" for one in trained.preprocessor.featuriser.columns)
    how += (
        "A drawn vector is no text: the training texts nearest to it stand for it."
        if texts
        else "None of these rows is in the data."
    )
    parts: list[Part] = [Prose(how)]
    if len(classes) < len(trained.class_names):
        more = count(len(trained.class_names) - len(classes), "further class")
        parts.append(Prose(f"Not shown: {more}.", "note"))
    if column is not None:
        return [*parts, _pictures(trained, column, classes)]
    generator = torch.Generator().manual_seed(derive_seed(trained.recipe.run.seed, "report"))
    made = draw_samples(trained, 2, classes=classes, temperature=TEMPERATURE, generator=generator)
    if any(one.kind == "text" for one in trained.preprocessor.featuriser.columns):
        return [*parts, _texts(found, made)]
    return [*parts, _table(made)]


def _pictures(trained: TrainedModel, column: Column, classes: list[int]) -> Part:
    seed = derive_seed(trained.recipe.run.seed, "report")
    lots = [
        draw_samples(
            trained,
            _EACH,
            classes=classes,
            temperature=one,
            generator=torch.Generator().manual_seed(seed),
        )
        for one in _TEMPERATURES
    ]
    made = concatenate_generated(lots, further={"temperature": _TEMPERATURES})
    limits = trained.preprocessor.featuriser.ranges.get(column.name)
    caption = (
        "Each line is a class, each picture a sample of it; the same draws at three temperatures. Lines that "
        "look like their class, and differ from picture to picture, say that the model has learned what the "
        "class looks like and how it varies."
    )
    figure = samples_figure(made, column, limits=limits, title="Samples by class and temperature")
    return picture(figure, name="samples", caption=caption)


def _texts(found: ReportContext, made: GeneratedRows) -> Part:
    trained = found.trained
    near = text_columns(trained.preprocessor.featuriser, made.features, found.rows.train, found.context, k=2)
    names = [trained.class_names[index] for index in made.classes]
    rows: list[list[Any]] = []
    for place, name in enumerate(names):
        cells = [values[place] for values in near.values()]
        rows.append(
            [
                name,
                *(f"{cell:.3f}" if isinstance(cell, float) else shorten(str(cell), _TEXT) for cell in cells),
            ]
        )
    columns = ["class", *(key.replace("_2", ", second").replace("_", " ") for key in near)]
    right = [column for column in columns if column.startswith("distance")]
    caption = (
        "A model of texts draws vectors of meaning, not words; shown are the training texts nearest to each "
        "sample. The distance goes from 0 (the same direction) to 2. Texts that belong to the class of their "
        "line say that the model knows what the class is about."
    )
    return Table(columns, rows, caption, right=right)


def _table(made: GeneratedRows) -> Part:
    table = made.table()
    own = ("id", "sample_id", "class", "sample_class")
    label = next(name for name in ("sample_class", "class") if name in table)
    names = [name for name in table if name not in own]
    shown = names[:_COLUMNS]
    rows = [
        [table[label][place], *(_cell(table[name][place]) for name in shown)] for place in range(len(made))
    ]
    caption = (
        "Rows in the columns and units of the input. log_density is how likely the model finds the row "
        "(higher: more typical), confidence how sure it is that the row belongs to its class."
    )
    if len(names) > len(shown):
        caption += f" Not shown: {count(len(names) - len(shown), 'further column')}."
    numbers = [name for name in shown if np.issubdtype(table[name].dtype, np.number)]
    return Table(["class", *shown], rows, caption, right=numbers)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)

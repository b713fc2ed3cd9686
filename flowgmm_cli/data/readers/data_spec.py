"""Data specs on the command line: `{use: csv, path: other.csv, text: question}`, as in the data section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Component, DataContext, Rows, SourceData
from flowgmm_cli.data.images.arrays import convert_images, convert_to_vectors, images_fit
from flowgmm_cli.data.images.format import WHITE, image_shape
from flowgmm_cli.data.readers.arrays import shapes_match
from flowgmm_cli.data.readers.base import MemoryReader, RowReader, translate_errors
from flowgmm_cli.data.readers.schema import InputSchema, read_settings
from flowgmm_cli.data.specs import CsvConfig, HfTextConfig
from flowgmm_cli.errors import DataError, RecipeError, did_you_mean
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.load import parse_component

SOURCE = "the data spec"
_ARRAY_KINDS = ("vector", "image")


def parse_spec(text: str, schema: InputSchema) -> Component:
    """Parse a data spec; the label column of the run is the default."""
    defaults = {"label": schema.label or "label"}
    return parse_component(text, "data", source=SOURCE, defaults=defaults)


def find_file(data: Component) -> str | None:
    """Return the file of a spec if it can be read in chunks; None if the source must load the rows."""
    config = data.config
    if isinstance(config, CsvConfig):
        return config.path if config.test_path is None else config.test_path
    if isinstance(config, HfTextConfig):
        path = config.path[0] if isinstance(config.path, list) and len(config.path) == 1 else config.path
        if isinstance(path, str) and Path(path).expanduser().is_file():
            return path
    return None


def apply_spec(data: Component, schema: InputSchema) -> InputSchema:
    """Return the schema with the column names of a spec instead of those of the run."""
    config = data.config
    values = dict(config)
    text: str | list[str] | None = values.get("text")
    parts = schema.text_parts
    if text is not None and (
        isinstance(config, CsvConfig) or any(column.kind == "text" for column in schema.columns)
    ):
        parts = (text,) if isinstance(text, str) else tuple(text)
        if sum(column.kind == "text" for column in schema.columns) != 1:
            raise RecipeError(
                f"{SOURCE}  `text` is given, but the model reads no text",
                hint="leave `text` out: columns are found by their names",
            )
    return replace(
        schema,
        label=values.get("label", schema.label),
        id=values.get("id") or schema.id,
        text_parts=parts,
        settings=read_settings(values),
        known=schema.known.union(values.get("drop", ())),
    )


def load_spec(data: Component, schema: InputSchema, context: DataContext) -> RowReader:
    """Load the rows of a spec into memory."""
    with translate_errors(f"the source `{data.use}`"):
        source: SourceData = build(data, context).load()
    for note in source.notes:
        context.note(note)
    name = "test" if "test" in source.splits else "train"
    rows = source.splits[name]
    columns = {column.name: _convert_column(column, schema, source, rows) for column in schema.columns}
    index = schema.class_index
    codes = np.array([*(index.get(class_name, -1) for class_name in source.class_names), -1], dtype=np.int64)
    labels = codes[rows.labels]
    unknown = np.flatnonzero((labels < 0) & (rows.labels >= 0)).tolist()
    return MemoryReader(
        Rows(columns, labels, rows.ids),
        f"{data.use} ({name})",
        unknown_labels={place: source.class_names[rows.labels[place]] for place in unknown},
    )


def _convert_column(column: Column, schema: InputSchema, source: SourceData, rows: Rows) -> Any:
    """Return the cells of the source's column of that name, or of its only column of that kind."""
    by_name: Mapping[str, Column] = {candidate.name: candidate for candidate in source.columns}
    actual = by_name.get(column.name)
    if actual is None and len(schema.columns) == 1 and column.kind not in ("numeric", "category"):
        kinds = _ARRAY_KINDS if column.kind in _ARRAY_KINDS else (column.kind,)
        candidates = [candidate for candidate in source.columns if candidate.kind in kinds]
        actual = candidates[0] if len(candidates) == 1 else None
    if actual is None:
        raise DataError(
            f"{SOURCE} gives no column `{column.name}`{did_you_mean(column.name, by_name)}",
            details=[f"columns: {', '.join(by_name)}"],
        )
    cells = rows.columns[actual.name]
    if actual.kind == column.kind and actual.shape == column.shape:
        return cells
    if column.kind == "image" and images_fit(actual.shape, column, schema.resize):
        return convert_images(cells, column, schema.resize, where=f"{SOURCE}: column `{actual.name}`")
    fits = shapes_match(actual.shape, column.shape)
    if (
        actual.kind == "image"
        and column.kind == "vector"
        and (
            fits or image_shape(actual) == image_shape(column)  # flat, or with other axes
        )
    ):
        return convert_to_vectors(cells, column, schema.ranges.get(column.name, (0.0, float(WHITE)))[1])
    if column.kind == "vector" and actual.kind == "vector" and fits:
        return cells.reshape(len(cells), *column.shape)
    if column.kind == "category" and actual.kind == "numeric":
        texts = [None if np.isnan(cell) else f"{cell:.15g}" for cell in cells]
        return np.array(texts, dtype=object)
    if column.kind == "numeric" and actual.kind == "category" and all(cell is None for cell in cells):
        return np.full(len(cells), np.nan)
    raise DataError(
        f"{SOURCE}: column `{actual.name}` is {actual.kind} {actual.shape or ''}".rstrip()
        + f", the model reads {column.kind} {column.shape or ''}".rstrip()
    )

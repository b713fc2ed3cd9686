"""Rows named by a data spec: `{use: csv, path: other.csv, text: question}`, as in a recipe's data section."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.api import Column, Component, DataContext, Rows, SourceData
from flowgmm_cli.data.image_shape import WHITE, image_shape
from flowgmm_cli.data.readers.arrays import same_shape
from flowgmm_cli.data.readers.image_cells import as_images, as_vectors, images_fit
from flowgmm_cli.data.readers.memory import reader_of
from flowgmm_cli.data.readers.schema import InputSchema, RowReader
from flowgmm_cli.data.specs import CsvConfig, HfTextConfig
from flowgmm_cli.errors import DataError, RecipeError, did_you_mean
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.component import parse_component

SOURCE = "the data spec"
_ARRAYS = ("vector", "image")


def parse_spec(text: str, schema: InputSchema) -> Component:
    """Read a data spec. What the run knows already (`label`) may be left out.

    Raises:
        RecipeError: the spec is invalid.
        PluginError: its source cannot be used.
    """
    defaults = {"label": schema.label or "label"}
    return parse_component(text, "data", source=SOURCE, defaults=defaults)


def file_of(data: Component, split: str | None) -> str | None:
    """The one file with the rows of a spec, if it can be read in chunks; None if its source must load it.

    Raises:
        RecipeError: the split is one that the spec does not name.
    """
    config = data.config
    if isinstance(config, CsvConfig):
        paths = {"test": config.test_path, "train": config.path, "val": config.val_path}
        named = [name for name, path in paths.items() if path is not None]
        if split is not None and split not in named:
            raise RecipeError(
                f"{SOURCE} has no split `{split}`{did_you_mean(split, named)}",
                details=[f"splits: {', '.join(named)}"],
                hint="the splits of `csv` are given by path, val_path and test_path",
            )
        return paths[split or named[0]]
    if isinstance(config, HfTextConfig):
        given = config.path[0] if isinstance(config.path, list) and len(config.path) == 1 else config.path
        if isinstance(given, str) and Path(given).expanduser().is_file():
            return given
    return None


def schema_of(data: Component, schema: InputSchema) -> InputSchema:
    """What the model reads, with the columns of a spec in the place of the run's."""
    config = data.config
    text: str | list[str] | None = getattr(config, "text", None)
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
    known = {*schema.known, *getattr(config, "drop", ())}
    return replace(
        schema,
        label=getattr(config, "label", schema.label),
        id=getattr(config, "id", None) or schema.id,
        text_parts=parts,
        delimiter=getattr(config, "delimiter", None),
        known=frozenset(known),
    )


def load_spec(
    data: Component, schema: InputSchema, *, split: str | None, context: DataContext, chunk_rows: int
) -> RowReader:
    """Load a spec's rows into memory through its source.

    Raises:
        DataError: a column or the split is missing, or the source finds something wrong.
    """
    source: SourceData = build(data, context).load()
    for note in source.notes:
        context.note(note)
    name = split or ("test" if "test" in source.splits else "train")
    if name not in source.splits:
        raise DataError(
            f"{SOURCE} ({data.use}) has no split `{name}`{did_you_mean(name, source.splits)}",
            details=[f"splits: {', '.join(source.splits)}"],
        )
    rows = source.splits[name]
    columns = {column.name: _cells(column, schema, source, rows) for column in schema.columns}
    index = schema.class_index
    codes = np.array([*(index.get(one, -1) for one in source.class_names), -1], dtype=np.int64)
    foreign = [one for one in source.class_names if one not in index]
    if foreign:
        context.note(
            f"{SOURCE} ({data.use}) has labels that are no class of the model, such as `{foreign[0]}`: they "
            "count as unlabelled"
        )
    found = Rows(columns, codes[rows.labels], rows.ids)
    return reader_of(found, f"{data.use} ({name})", chunk_rows=chunk_rows)


def _cells(column: Column, schema: InputSchema, source: SourceData, rows: Rows) -> Any:
    """A column of the model among those of the source: by name, or the only one of its kind."""
    there: Mapping[str, Column] = {one.name: one for one in source.columns}
    own = there.get(column.name)
    if own is None and len(schema.columns) == 1 and column.kind not in ("numeric", "category"):
        kinds = _ARRAYS if column.kind in _ARRAYS else (column.kind,)
        same = [one for one in source.columns if one.kind in kinds]
        own = same[0] if len(same) == 1 else None
    if own is None:
        raise DataError(
            f"{SOURCE} gives no column `{column.name}`{did_you_mean(column.name, there)}",
            details=[f"columns: {', '.join(there)}"],
        )
    cells = rows.columns[own.name]
    if own.kind == column.kind and own.shape == column.shape:
        return cells
    if column.kind == "image" and images_fit(own.shape, column, schema.resize):
        return as_images(cells, column, schema.resize, where=f"{SOURCE}: column `{own.name}`")
    if own.kind == "image" and column.kind == "vector" and _same_image(own, column):
        return as_vectors(cells, column, schema.ranges.get(column.name, (0.0, float(WHITE)))[1])
    if column.kind == "vector" and own.kind == "vector" and same_shape(own.shape, column.shape):
        return cells.reshape(len(cells), *column.shape)
    if column.kind == "category" and own.kind == "numeric":
        texts = [None if np.isnan(cell) else f"{cell:.15g}" for cell in cells]
        return np.array(texts, dtype=object)
    if column.kind == "numeric" and own.kind == "category" and all(cell is None for cell in cells):
        return np.full(len(cells), np.nan)
    raise DataError(
        f"{SOURCE}: column `{own.name}` is {own.kind} {own.shape or ''}".rstrip()
        + f", the model reads {column.kind} {column.shape or ''}".rstrip()
    )


def _same_image(image: Column, vector: Column) -> bool:
    """Whether a vector column holds what an image column does, laid flat or in another order."""
    return same_shape(image.shape, vector.shape) or image_shape(image) == image_shape(vector)

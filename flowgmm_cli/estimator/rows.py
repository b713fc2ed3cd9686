"""Rows of the estimator: arrays of numbers, and data frames, which are read like tables in files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flowgmm_cli.api import Column, DataContext, Rows, ScoreInputs
from flowgmm_cli.data.readers.base import ReadOptions
from flowgmm_cli.data.readers.chunks import TableChunks
from flowgmm_cli.data.readers.python_rows import MemoryTable, frame_columns, to_arrow
from flowgmm_cli.data.readers.table import Table
from flowgmm_cli.data.sources.csv import CsvSource
from flowgmm_cli.data.specs import CsvConfig
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.errors import DataError
from flowgmm_cli.estimator.recipe import to_value_error
from flowgmm_cli.inference.drift import Drift
from flowgmm_cli.inference.inputs import concatenate_rows, input_schema
from flowgmm_cli.inference.samples import input_table
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.trained_model import TrainedModel

Matrix = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]

_NAME = "X"
_COLUMN = "x"
_REMEDY = (
    "a data frame (pandas, polars, Arrow) may hold categories, dates and missing cells; or encode them, for "
    "example with OneHotEncoder and SimpleImputer"
)


def read_frame(X: Any, *, numbers: bool = False) -> MemoryTable | None:  # noqa: N803
    """Return the columns of a data frame; None for an array.

    None, too, for a frame of numbers without a missing cell, unless `numbers` is True.
    """
    columns = frame_columns(X) if hasattr(X, "columns") else None
    if not columns:
        return None
    table = MemoryTable({name: to_arrow(cells) for name, cells in columns.items()}, _NAME)
    return table if numbers or not all(map(_holds_numbers, table.table.columns)) else None


def _holds_numbers(cells: pa.ChunkedArray) -> bool:
    kind = cells.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        return False
    has_nan = pa.types.is_floating(kind) and pc.any(pc.is_nan(cells)).as_py()
    return cells.null_count == 0 and not has_nan


def split_of_array(x: Matrix, classes: Sequence[str], codes: Codes) -> SplitData:
    """Return training rows of an array `(N, D)`, with class indices `(N,)`."""
    columns = (Column(_COLUMN, "vector", x.shape[1:]),)
    return SplitData(columns, tuple(classes), {"train": rows_of_array(x, codes)})


def rows_of_array(x: Matrix, codes: Codes | None = None) -> Rows:
    """Return rows of an array `(N, D)`, with class indices `(N,)` or without."""
    labels = np.full(len(x), -1, dtype=np.int64) if codes is None else codes
    return Rows({_COLUMN: x}, labels, np.arange(len(x)).astype(str))


def require_probabilities(scores: ScoreInputs) -> ScoreInputs:
    """Return the scores of rows. Raises `ValueError` if a row has no probabilities."""
    bad = np.flatnonzero(scores.log_posterior.isnan().any(dim=1).numpy())
    if len(bad):
        raise ValueError(f"X, row {bad[0]}: its numbers are too large for the model ({len(bad):,} such rows)")
    return scores


def explain_array(error: ValueError) -> ValueError:
    """Return scikit-learn's error about an array with its remedy here."""
    message = str(error)
    if "could not convert" in message:
        return ValueError(f"{message}; {_REMEDY}")
    if message.startswith("Input X contains NaN"):
        return ValueError(f"Input X contains NaN; {_REMEDY}")
    return error


def split_of_frame(frame: MemoryTable, recipe: Recipe, classes: Sequence[str], codes: Codes) -> SplitData:
    """Return training rows of a frame; columns that are left out are warned of.

    Raises:
        DataError: no column can be an input, or cells must be corrected.
    """
    config = recipe.data.config
    if not isinstance(config, CsvConfig):
        raise TypeError("the recipe of a data frame has the source `csv`")
    source = CsvSource(config, DataContext())
    data = source.convert(Table(frame.table, where=_NAME), tuple(classes), codes)
    _warn(data.notes)
    return SplitData(data.columns, data.class_names, data.splits)


def rows_of_frame(X: Any, trained: TrainedModel, names: Sequence[str]) -> Rows:  # noqa: N803
    """Return the rows of a frame for a model; a warning says how they differ from the training rows.

    Raises:
        ValueError: X is no frame with the columns `names`, or a cell does not fit its column.
    """
    frame = read_frame(X, numbers=True)
    if frame is None:
        kind = type(X).__name__
        raise ValueError(f"X is a {kind}; the classifier was fitted to a data frame with {', '.join(names)}")
    rows, drift = [], Drift(trained, "X")
    try:
        for chunk in TableChunks(frame, input_schema(trained), ReadOptions(lambda text: None)):
            drift.add(chunk)
            rows.append(chunk)
    except DataError as error:
        raise to_value_error(error) from error
    _warn([*drift.notes(), *(warning.text for warning in drift.warnings())])
    return concatenate_rows(rows)


def frame_of_features(features: Matrix, trained: TrainedModel) -> pd.DataFrame:
    """Return the columns of a feature matrix `(N, F)` in the units of the frame, without texts."""
    encoder = trained.preprocessor.feature_encoder
    return pd.DataFrame(input_table(encoder, encoder.invert(features)))


def _warn(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=4)

"""The rows of a loader or of OpenML as input columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, DataError, RecipeError
from flowgmm_sklearn_data.arguments import suggest
from flowgmm_sklearn_data.classes import clean_cell

MAX_NAMED_COLUMNS = 512
"""A matrix with more features becomes a single column of vectors."""

MAX_CATEGORIES = 64
"""A column without numbers that has more different values must be declared in the recipe."""

MAX_DENSE_BYTES = 4 * 2**30
"""The largest sparse matrix that is made dense."""

Cells = npt.NDArray[Any]


@dataclass(frozen=True)
class Choice:
    """The recipe's keys about columns: see the source's parameters."""

    drop: Sequence[str] = ()
    categorical: Sequence[str] | None = None
    text: Sequence[str] = ()


def matrix_columns(matrix: Any, names: Sequence[str], what: str) -> dict[str, Cells]:
    """Return the columns of a matrix `(N, D)`, sparse or dense, or `{"x": matrix}` for large D.

    Args:
        matrix: numbers, or objects if some columns are not numeric.
        names: the columns' names; `x1`, `x2`, ... if they do not fit.
        what: the data's name in messages.
    """
    if hasattr(matrix, "toarray"):
        rows, features = matrix.shape
        if rows * features * 8 > MAX_DENSE_BYTES:
            raise DataError(
                f"{what} is a sparse matrix of {rows:,} rows and {features:,} features, "
                f"{rows * features * 8 / 2**30:,.0f} GiB in memory",
                hint="reduce it elsewhere, for instance with TruncatedSVD, and train on the arrays: "
                "{use: arrays, path: FILE.npz}",
            )
        matrix = matrix.toarray()
    matrix = np.asarray(matrix)
    if matrix.ndim != 2:
        raise DataError(
            f"{what} gives rows of {matrix.ndim - 1} dimensions where numbers in one are expected",
            hint="flowgmm plugins describe sklearn_loader lists suitable loaders",
        )
    if matrix.dtype.kind in "fiub" and matrix.shape[1] > MAX_NAMED_COLUMNS:
        return {"x": matrix.astype(np.float64)}
    if len(names) != matrix.shape[1] or len(set(names)) < len(names):
        names = [f"x{index}" for index in range(1, matrix.shape[1] + 1)]
    return {str(name): matrix[:, index] for index, name in enumerate(names)}


def choose_columns(
    splits: Mapping[str, Mapping[str, Cells]], choice: Choice, what: str
) -> tuple[tuple[Column, ...], dict[str, dict[str, Cells]]]:
    """Determine the kind of every column of `train`, and convert the cells of all splits.

    Raises:
        DataError: a column is neither numbers nor categories, or no column is left.
        RecipeError: the recipe names a missing column.
    """
    train = splits["train"]
    _check_names(list(train), choice, what)
    columns: list[Column] = []
    cells: dict[str, dict[str, Cells]] = {split: {} for split in splits}
    if choice.text:
        columns.append(Column(choice.text[0] if len(choice.text) == 1 else "text", "text"))
        for split, table in splits.items():
            cells[split][columns[0].name] = _join_texts([table[part] for part in choice.text])
    for name in train:
        if name in choice.drop or name in choice.text:
            continue
        column = _column(name, train[name], choice, what)
        columns.append(column)
        for split, table in splits.items():
            cells[split][name] = _cells(column, table[name], what)
    if not columns:
        raise DataError(f"{what} has no input column left", hint="check data.drop")
    return tuple(columns), cells


def _check_names(names: list[str], choice: Choice, what: str) -> None:
    given = {"drop": choice.drop, "categorical": choice.categorical or (), "text": choice.text}
    problems = [
        f"data.{key}  no column `{name}`{suggest(name, names)}"
        for key, columns in given.items()
        for name in columns
        if name not in names
    ]
    if problems:
        shown = ", ".join(names[:30]) + (", ..." if len(names) > 30 else "")
        raise RecipeError(f"{what} has other columns", details=problems, hint=f"its columns are {shown}")


def _column(name: str, values: Cells, choice: Choice, what: str) -> Column:
    if values.ndim > 1:
        return Column(name, "vector", values.shape[1:])
    if name in (choice.categorical or ()):
        return Column(name, "category")
    words = choice.categorical is None and values.dtype == object and _are_strings(values)
    if not words and _numbers(values) is not None:
        return Column(name, "numeric")
    distinct = {clean_cell(cell) for cell in values.tolist()} - {None}
    if len(distinct) > MAX_CATEGORIES:
        raise DataError(
            f"{what}: column `{name}` is neither numbers nor a few categories: it has {len(distinct):,} "
            f"different values, such as `{min(map(str, distinct))[:40]}`",
            hint=f"name it as categories (data.categorical=[{name}]), or leave it out (data.drop=[{name}])",
        )
    return Column(name, "category")


def _are_strings(values: Cells) -> bool:
    """Return whether no cell is a number; OpenML's categories may be the strings `0` and `1`."""
    return all(cell is None or cell != cell or isinstance(cell, str) for cell in values.tolist())


def _cells(column: Column, values: Cells, what: str) -> Cells:
    if column.kind == "vector":
        return values
    if column.kind == "category":
        return np.array([clean_cell(cell) for cell in values.tolist()], dtype=object)
    numbers = _numbers(values)
    if numbers is None:
        raise DataError(
            f"{what}: column `{column.name}` holds numbers in the training rows, and others in the test rows",
            hint=f"data.categorical=[{column.name}] takes all for categories",
        )
    return numbers


def _numbers(values: Cells) -> npt.NDArray[np.float64] | None:
    if values.dtype == object:
        values = np.array([np.nan if cell is None else cell for cell in values.tolist()], dtype=object)
    try:
        return values.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _join_texts(parts: Sequence[Cells]) -> Cells:
    texts = [
        "\n".join(text for cell in row if (text := clean_cell(cell)) is not None)
        for row in zip(*(part.tolist() for part in parts), strict=True)
    ]
    return np.array(texts, dtype=object)

"""Small tables on disk, and recipes that leave them there."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.out_of_core import build_store
from flowgmm_cli.data.prepare import fit_preprocessor, load_rows
from flowgmm_cli.data.splits import SplitData

CLASSES = np.array(["ash", "birch", "yew"])


def make_table(rows: int, seed: int, *, shown: float = 1.0) -> pa.Table:
    """Two numbers, a vector, a category and a class that moves the first number."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, rows)
    numbers = rng.standard_normal((rows, 2)).astype(np.float32)
    numbers[:, 0] += 4 * kind
    vectors = rng.standard_normal((rows, 3)).astype(np.float32)
    return pa.table(
        {
            "a": numbers[:, 0],
            "b": numbers[:, 1],
            "v": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 3),
            "colour": np.array(["red", "green", "blue"])[rng.integers(0, 3, rows)],
            "name": pa.array([f"{seed}-{row}" for row in range(rows)]),
            "kind": pa.array(CLASSES[kind], mask=rng.random(rows) >= shown),
        }
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four files of 600 rows in groups of 250; half of the rows have a label."""
    place = tmp_path / "rows"
    place.mkdir()
    for number in range(4):
        write(place / f"part-{number}.parquet", make_table(600, number, shown=0.5))
    return place


def write(file: Path, table: pa.Table, rows: int = 250) -> None:
    if file.suffix == ".parquet":
        pq.write_table(table, file, row_group_size=rows)
    elif file.suffix == ".csv":
        pa_csv.write_csv(table, file)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=rows)


@pytest.fixture
def write_table() -> Callable[..., None]:
    return write


@pytest.fixture
def some_rows() -> Callable[..., pa.Table]:
    return make_table


@pytest.fixture
def load_store() -> Callable[..., tuple[SplitData, Any]]:
    """Load the rows of a `data` section and write their features, `load_store(data, context)`."""

    def load(data: Any, context: DataContext, *, with_inputs: bool = False) -> tuple[SplitData, Any]:
        rows = load_rows(data, context)
        preprocessor = fit_preprocessor(rows, data, context)
        store, notes = build_store(rows, preprocessor, context, with_inputs=with_inputs)
        return replace(rows, notes=(*rows.notes, *notes)), store

    return load


@pytest.fixture
def stored(load_store: Callable[..., Any], context: DataContext) -> Callable[..., Any]:
    return partial(load_store, context=context)


@pytest.fixture
def config(component: Callable[..., Any]) -> Callable[..., Any]:
    """Return the `data` section of a table that stays on disk unless `memory` is given."""

    def make(path: Path, **parameters: Any) -> Any:
        options = {"memory": 0.0, "label": "kind", "drop": ["name"], **parameters}
        return component("data", "csv", path=str(path), **options)

    return make

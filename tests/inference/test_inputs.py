"""Rows of a reader by position."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.readers.base import MemoryReader
from flowgmm_cli.inference.inputs import add_inputs, read_rows_at
from flowgmm_cli.report.text import describe_row


@pytest.mark.parametrize("chunk_rows", [2, 7, 100])
def test_rows_are_read_by_position(chunk_rows: int) -> None:
    ids = np.array([f"r{place}" for place in range(20)], dtype=object)
    rows = Rows({"a": np.arange(20.0)}, np.full(20, -1), ids)
    reader = MemoryReader(rows, "rows", chunk_rows=chunk_rows)
    rows_at = read_rows_at(reader, np.array([13, 0, 13, 7]))
    assert rows_at.ids.tolist() == ["r13", "r0", "r13", "r7"]
    assert rows_at.columns["a"].tolist() == [13, 0, 13, 7]


def test_dates_of_rows_are_written_as_in_their_table() -> None:
    columns = Column("x", "numeric"), Column("day", "date", format="%d.%m.%Y")
    cells = {"x": np.array([1.5, 2.0]), "day": np.array([0.0, np.nan])}
    rows = Rows(cells, np.full(2, -1), np.array(["a", "b"], dtype=object))
    assert add_inputs({}, rows, columns)["day"].tolist() == ["01.01.1970", None]
    assert [describe_row(rows, columns, place) for place in range(2)] == [
        "x=1.5, day=01.01.1970",
        "x=2, day=",
    ]

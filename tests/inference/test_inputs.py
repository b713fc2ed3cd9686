"""Rows of a reader by position."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.api import Rows
from flowgmm_cli.data.readers.base import MemoryReader
from flowgmm_cli.inference.inputs import read_rows_at


@pytest.mark.parametrize("chunk_rows", [2, 7, 100])
def test_rows_are_read_by_position(chunk_rows: int) -> None:
    ids = np.array([f"r{place}" for place in range(20)], dtype=object)
    rows = Rows({"a": np.arange(20.0)}, np.full(20, -1), ids)
    reader = MemoryReader(rows, "rows", chunk_rows=chunk_rows)
    rows_at = read_rows_at(reader, np.array([13, 0, 13, 7]))
    assert rows_at.ids.tolist() == ["r13", "r0", "r13", "r7"]
    assert rows_at.columns["a"].tolist() == [13, 0, 13, 7]

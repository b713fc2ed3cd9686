"""Conformance suites of the sources, with their own files and queries."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from flowgmm_cli.testing import DataConformance


class ArrowConformance(DataConformance):
    """With a folder of two Parquet files."""

    config: ClassVar = {"path": "rows", "test_path": "test.parquet", "label": "class"}
    missing: ClassVar = {"path": "no-such-folder"}

    def write_data(self, folder: Path) -> None:
        """Write the files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        (folder / "rows").mkdir()
        for part, file in enumerate(("rows/1.parquet", "rows/2.parquet", "test.parquet")):
            numbers = range(part * 30, part * 30 + 30)
            table = pa.table(
                {
                    "size": [None if row == 4 else row / 7 for row in numbers],
                    "kind": [("a", "b", None)[row % 3] for row in numbers],
                    "point": pa.array([[row, -row] for row in numbers], pa.list_(pa.float32(), 2)),
                    "class": [("no", "yes")[row % 2] for row in numbers],
                }
            )
            pq.write_table(table, folder / file)


class SqlConformance(DataConformance):
    """With rows that DuckDB makes."""

    config: ClassVar = {
        "query": "SELECT i AS id, i / 7.0 AS size, ['a', 'b', NULL][i % 3 + 1] AS kind, i % 2 AS class "
        "FROM range(60) t(i)",
        "label": "class",
        "id": "id",
    }
    missing: ClassVar = {"query": "SELECT * FROM 'no-such-file.parquet'"}

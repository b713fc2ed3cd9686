"""`benchmarks/larger_than_memory.py` and its result: memory does not grow with the number of rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import larger_than_memory

    yield larger_than_memory
    sys.modules.pop("larger_than_memory")


def test_the_files_have_the_documented_rows(benchmark: Any, tmp_path: Path) -> None:
    size = benchmark.make_table(tmp_path / "rows", 2500, 3, file_rows=1000, group_rows=400)
    files = sorted((tmp_path / "rows").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [1000, 1000, 500]
    assert pq.read_metadata(files[0]).num_row_groups == 3
    assert size == sum(file.stat().st_size for file in files)
    tables = [pq.read_table(file) for file in files]
    assert not tables[0].slice(0, 500).equals(tables[2])
    assert 0 < len(tables[0]["kind"].drop_null()) < 200


@pytest.mark.slow
def test_memory_is_flat(benchmark: Any, tmp_path: Path) -> None:
    words = {"labels": 100, "steps": 40, "batch": 256, "log_every": 5, "memory": 0.05}
    peaks = []
    for rows in (200_000, 2_000_000):
        folder = tmp_path / f"{rows}"
        benchmark.make_table(folder, rows, 10, file_rows=200_000, group_rows=50_000)
        measured = benchmark.train("files", folder, rows, tmp_path, {**words, "memory": 0.01})
        peaks.append(measured.anonymous_mib + measured.mapped_mib)
    assert peaks[1] < peaks[0] + 60  # the cells of the rows between them take 137 MiB, twice that in float64
    assert peaks[1] < 1024


@pytest.mark.slow
def test_it_prints_a_table_and_saves_its_results(tmp_path: Path) -> None:
    words = ["--gigabytes", "0.002", "--features", "5", "--steps", "20", "--batch", "64", "--labels", "40"]
    words += ["--memory", "0.001", "--subset", "5000", "--file-rows", "30000", "--group-rows", "8000"]
    words += ["--folder", str(tmp_path), "--json", str(tmp_path / "f.json")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "larger_than_memory.py"), *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "of its time in memory" in done.stdout
    results = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert [result["what"] for result in results["measured"]] == ["memory", "files", "memory", "again"]
    assert results["measured"][1]["rows"] == 100_000
    assert all(result["step_ms"] > 0 and result["peak_mib"] > 100 for result in results["measured"])
    assert not list(tmp_path.glob("flowgmm-rows-*"))

"""`benchmarks/inference.py` and `larger_than_memory.py`: memory does not grow with the number of rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from flowgmm_cli.data.feature_file import write_features

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
FEW, MANY = 4000, 160_000


@pytest.fixture
def inference(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("inference")


@pytest.fixture
def training(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("larger_than_memory")


def results_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> Any:
    """Run a benchmark with some words, and return the results that it saved."""
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", *words, "--json", str(folder / "f.json")])
    module.main()
    return json.loads((folder / "f.json").read_text(encoding="utf-8"))["measured"]


def test_files_have_the_documented_rows_and_columns(inference: Any, training: Any, tmp_path: Path) -> None:
    inference.make_table(tmp_path / "a.csv", 150, labels=True)
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert (len(lines), lines[0].count(",")) == (151, 10)
    inference.make_table(tmp_path / "b.csv", 7, labels=False)
    assert "kind" not in (tmp_path / "b.csv").read_text(encoding="utf-8")
    size = training.make_table(tmp_path / "rows", 2500, 3, file_rows=1000, group_rows=400)
    files = sorted((tmp_path / "rows").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [1000, 1000, 500]
    assert pq.read_metadata(files[0]).num_row_groups == 3
    assert size == sum(file.stat().st_size for file in files)
    tables = [pq.read_table(file) for file in files]
    assert not tables[0].slice(0, 500).equals(tables[2])
    assert 0 < len(tables[0]["kind"].drop_null()) < 200


def test_rates_of_inference_are_compared_with_the_bare_model(
    inference: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(what: str, command: list[str], rows: int) -> Any:
        assert Path(command[command.index("--data") + 1]).is_file()
        return inference.ProcessResult(what, rows, 2.0, 500.0 if what == "predict" else 1000.0, 300.0)

    monkeypatch.setattr(inference, "measure", measure)
    words = ["--run", str(tmp_path), "--rows", "30", "--verbs", "predict,embed"]
    measured = results_of(inference, monkeypatch, tmp_path, *words)
    assert [result["what"] for result in measured] == ["bare model", "predict", "embed"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["predict", "500", "0.50x", "2.0", "300"]


@pytest.mark.slow
def test_memory_of_inference_is_flat(inference: Any, tmp_path: Path) -> None:
    run = inference.make_run(tmp_path)
    for rows in (FEW, MANY):
        inference.make_table(tmp_path / f"{rows}.csv", rows, labels=False)
    bare = inference.bare(run, tmp_path / f"{FEW}.csv")
    assert bare["rows"] == FEW
    assert bare["rows_per_second"] > 0
    few = inference.measure(
        "ood", inference.command_of("ood", run, tmp_path / f"{FEW}.csv", tmp_path), FEW
    ).peak_mib
    for verb in inference.VERBS:
        command = inference.command_of(verb, run, tmp_path / f"{MANY}.csv", tmp_path)
        many = inference.measure(verb, command, MANY)
        assert many.peak_mib < few + 100, verb
        assert many.rows_per_second > 0
        lines = (tmp_path / f"{verb}.csv").read_bytes().count(b"\n")
        assert lines == MANY + 1


@pytest.mark.slow
def test_each_of_two_processes_reads_half_of_the_features(training: Any, tmp_path: Path) -> None:
    parts = ((np.zeros((50_000, 20), np.float32), np.arange(50_000, dtype=np.uint64)) for _ in range(8))
    write_features(tmp_path / "x.features", (400_000, 20), np.float32, parts)
    one, two = (training.measure_reading(tmp_path / "x.features", 0.05, count) for count in (1, 2))
    # the buffer that is read ahead counts, too
    assert all(0.4 < count / one.bytes[0] < 0.65 for count in two.bytes)


@pytest.mark.slow
def test_memory_of_training_is_flat(training: Any, tmp_path: Path) -> None:
    words = {"labels": 100, "steps": 40, "batch": 256, "log_every": 5, "memory": 0.01}
    peaks = []
    for rows in (200_000, 2_000_000):
        folder = tmp_path / f"{rows}"
        training.make_table(folder, rows, 10, file_rows=200_000, group_rows=50_000)
        measured = training.train("files", folder, rows, tmp_path, words)
        assert measured.step_ms > 0
        peaks.append(measured.anonymous_mib + measured.mapped_mib)
    assert peaks[1] < peaks[0] + 60  # the cells of the rows between them take 69 MiB, twice that in float64

"""`benchmarks/inference.py` and its result: memory does not grow with the number of rows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
FEW, MANY = 4000, 160_000


@pytest.fixture
def inference(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import inference

    yield inference
    sys.modules.pop("inference")


def test_the_table_has_the_documented_columns(inference: Any, tmp_path: Path) -> None:
    inference.make_table(tmp_path / "a.csv", 150, labels=True)
    lines = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 151
    assert lines[0].count(",") == 10
    inference.make_table(tmp_path / "b.csv", 7, labels=False)
    assert "kind" not in (tmp_path / "b.csv").read_text(encoding="utf-8")


@pytest.mark.slow
def test_memory_is_flat(inference: Any, tmp_path: Path) -> None:
    run = inference.make_run(tmp_path)
    for rows in (FEW, MANY):
        inference.make_table(tmp_path / f"{rows}.csv", rows, labels=False)
    for verb in inference.VERBS:
        few, many = (
            inference.measure(verb, inference.command_of(verb, run, tmp_path / f"{rows}.csv", tmp_path), rows)
            for rows in (FEW, MANY)
        )
        assert many.peak_mib < few.peak_mib + 100, verb
        assert many.peak_mib < 1536
        lines = (tmp_path / f"{verb}.csv").read_bytes().count(b"\n")
        assert lines == MANY + 1


@pytest.mark.slow
def test_it_prints_a_table_and_saves_its_results(tmp_path: Path) -> None:
    words = ["--rows", "3000", "--verbs", "predict", "--json", str(tmp_path / "f.json")]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "inference.py"), *words], capture_output=True, text=True, check=True
    )
    assert "bare model" in done.stdout
    measured = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["measured"]
    assert [result["what"] for result in measured] == ["bare model", "predict"]
    assert all(result["rows_per_second"] > 0 for result in measured)

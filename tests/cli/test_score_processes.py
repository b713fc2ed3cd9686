"""`predict`, `embed` and `ood` with `--processes`: the answer of one process, row for row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from own_files import numbers, save

pytestmark = pytest.mark.slow


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, as its workers import what it was started from."""
    return subprocess.run(
        [sys.executable, "-m", "flowgmm_cli", *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def table(run: Path) -> str:
    """Many rows, one of which has a word where a number should be."""
    rows = numbers(9000, labelled=0)
    save("many.csv", rows)
    lines = Path("many.csv").read_text().splitlines()
    cells = lines[5000].split(",")
    lines[5000] = ",".join("x" if cell.replace(".", "").lstrip("-").isdigit() else cell for cell in cells)
    Path("many.csv").write_text("\n".join(lines) + "\n")
    return "many.csv"


def test_rows_come_in_order_and_equal_those_of_a_single_process(run: Path, table: str) -> None:
    for count in ("1", "2"):
        done = command("predict", str(run), "--data", table, "--save", f"p{count}.csv", "--processes", count)
        assert done.returncode == 0, done.stderr
        words = ["--data", table, "--save", f"z{count}.npz", "--processes", count]
        done = command("embed", str(run), *words)
        assert done.returncode == 0, done.stderr
    single, parallel = (Path(f"p{count}.csv").read_text() for count in "12")
    assert single.count("\n") == 9001
    assert single == parallel
    with np.load("z1.npz") as first, np.load("z2.npz") as second:
        assert first["z"].shape[0] == 9000
        np.testing.assert_array_equal(first["z"], second["z"])
        assert np.isnan(first["z"]).any(axis=1).sum() == 1


def test_ood_tells_the_same(run: Path, table: str) -> None:
    results = []
    for count in ("1", "2"):
        done = command("ood", str(run), "--out", table, "--json", "--save", "o.csv", "--processes", count)
        assert done.returncode == 0, done.stderr
        answer = {**json.loads(done.stdout), "seconds": None, "rows_per_second": None}
        results.append((answer, Path("o.csv").read_text()))
    assert {name for name in results[0][0] if results[0][0][name] != results[1][0][name]} == set()
    assert results[0][1] == results[1][1]


def test_an_error_of_a_worker_ends_the_command(run: Path, table: str) -> None:
    words = ["--data", table, "--save", "p.csv", "--on-error", "fail", "--processes", "2"]
    done = command("predict", str(run), *words)
    assert done.returncode == 5
    assert done.stderr.count("error: ") == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("p.csv").exists()

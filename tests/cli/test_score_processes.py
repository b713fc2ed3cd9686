"""`predict`, `embed` and `ood` with `--processes`: the answer of one process, row for row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import numbers, save, shell

pytestmark = pytest.mark.slow


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


def test_rows_come_in_order_and_equal_those_of_a_single_process(flowgmm: Any, run: Path, table: str) -> None:
    rows = f"{run} --data {table}"
    flowgmm(*f"predict {rows} --with x1 --save p1.csv".split())
    flowgmm(*f"embed {rows} --save z1.npz".split())
    several = f"{rows} --processes 2"
    shell(f"flowgmm predict {several} --with x1 --save p2.csv && flowgmm embed {several} --save z2.npz")
    single, parallel = (Path(f"p{count}.csv").read_text() for count in "12")
    assert single.count("\n") == 9001
    assert single == parallel
    with np.load("z1.npz") as first, np.load("z2.npz") as second:
        assert first["z"].shape[0] == 9000
        np.testing.assert_array_equal(first["z"], second["z"])
        assert np.isnan(first["z"]).any(axis=1).sum() == 1


def test_ood_gives_the_same(flowgmm: Any, run: Path, table: str) -> None:
    line = f"ood {run} --out {table} --json --save o.csv"
    results = []
    for done in (flowgmm(*line.split()), shell(f"mv o.csv o1.csv; flowgmm {line} --processes 2")):
        results.append({**done.json, "seconds": None, "rows_per_second": None})
    assert results[0] == results[1]
    assert Path("o1.csv").read_text() == Path("o.csv").read_text()


def test_an_error_of_a_worker_ends_the_command(run: Path, table: str) -> None:
    line = f"flowgmm predict {run} --data {table} --save p.csv --on-error fail --processes 2"
    done = shell(line, code=5)
    assert done.err.count("error: ") == 1
    assert "hint: " in done.err
    assert "Traceback" not in done.err
    assert not Path("p.csv").exists()

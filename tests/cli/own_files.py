"""Small tables as people have them, made by hand, the short way to train on them, and lines of bash."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SHORT = ("train.epochs=1", "flow.hidden=8", "flow.couplings=2", "calibration.folds=2", "search=null")
"""Words that make a run take a moment."""

Row = list[str]


@dataclass(frozen=True)
class Outcome:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON object on stdout."""
        return json.loads(self.out, parse_constant=pytest.fail)  # no NaN or Infinity

    @property
    def rows(self) -> list[dict[str, str]]:
        """The rows of the csv table on stdout."""
        return list(csv.DictReader(io.StringIO(self.out)))


def copy_table(source: Path, target: Path) -> None:
    """Copy the runs of `t.csv` and the file itself to another folder."""
    shutil.copytree(source / "runs", target / "runs")
    shutil.copy(source / "t.csv", target / "t.csv")
    for file in (target / "runs").rglob("*.[jy]*"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(str(source / "t.csv"), "t.csv"), encoding="utf-8")


def train_run(folder: Path, recipe: str, words: list[str]) -> None:
    """Train a recipe into `runs/RECIPE/first` of a folder."""
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.runs import create_run
    from flowgmm_cli.training.pipeline import train

    loaded = load_recipe(recipe, [*words, *SHORT[1:]])
    train(loaded, create_run(loaded, argv=["train"], directory=folder / "runs" / recipe / "first"))


def shell(line: str, *, code: int | None = 0, **environ: str) -> Outcome:
    """Run a line of bash, in which `flowgmm` is a process of its own, and check its exit code."""
    script = f'set -o pipefail; flowgmm() {{ "{sys.executable}" -m flowgmm_cli "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env={**os.environ, **environ}, check=False
    )
    assert code in (None, done.returncode), done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


def numbers(
    count: int,
    *,
    features: int = 2,
    labelled: int | None = None,
    classes: Sequence[str] = ("no", "yes"),
    seed: int = 0,
) -> list[Row]:
    """A header and `count` rows of numbers, classes in turn; labels after the first `labelled` are blank."""
    draw = random.Random(seed)
    rows = [[*(f"x{column + 1}" for column in range(features)), "label"]]
    for row in range(count):
        place = row % len(classes)
        known = labelled is None or row < labelled
        cells = [f"{draw.gauss(3 * place, 1):.3f}" for _ in range(features)]
        rows.append([*cells, classes[place] if known else ""])
    return rows


def texts(
    count: int, *, labelled: int | None = None, classes: Sequence[str] = ("sport", "money"), seed: int = 0
) -> list[Row]:
    """A header and `count` texts, classes in turn; labels after the first `labelled` are blank."""
    draw = random.Random(seed)
    words = [
        ["goal", "match", "team", "score", "win", "league", "player"],
        ["stock", "market", "price", "bank", "profit", "trade", "share"],
    ]
    rows = [["text", "label"]]
    for row in range(count):
        place = row % len(classes)
        known = labelled is None or row < labelled
        rows.append([" ".join(draw.choices(words[place % 2], k=6)), classes[place] if known else ""])
    return rows


def add_column(rows: list[Row], name: str, cell: Callable[[int], str]) -> list[Row]:
    """Put a column before all others; `cell` gives the value of row 0, 1, ..."""
    return [[name, *rows[0]], *([cell(index), *row] for index, row in enumerate(rows[1:]))]


def as_csv(rows: Sequence[Row], *, delimiter: str = ",", end: str = "\n") -> str:
    """The rows as text; every cell with a special character in quotes."""

    def quoted(cell: str) -> str:
        special = any(mark in cell for mark in (delimiter, '"', "\n", "\r"))
        return '"' + cell.replace('"', '""') + '"' if special else cell

    return "".join(delimiter.join(map(quoted, row)) + end for row in rows)


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def change(run: Path, **values: Any) -> None:
    """Change values of the `run.json` of a run."""
    save(run / "run.json", json.dumps({**read_json(run / "run.json"), **values}))


def read_rows(path: Path | str) -> list[dict[str, str]]:
    """Read a csv file."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def save(path: Path | str, rows: Sequence[Row] | str | bytes) -> str:
    """Write rows as csv, or text or bytes as they are, and return the path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, bytes):
        file.write_bytes(rows)
    else:
        file.write_bytes((rows if isinstance(rows, str) else as_csv(rows)).encode())
    return str(path)

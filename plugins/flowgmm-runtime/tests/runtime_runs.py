"""Runs of flowgmm and their exports, made by its command line, and rows for them."""

import csv
import random
import runpy
import sys
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

_TOPICS = ["market trade bank money profit", "goal team player match coach", "phone data chip code network"]
SHORT = ["search=null", "train.max_steps=30", "calibration.folds=2", "flow.hidden=16", "flow.couplings=2"]


@dataclass(frozen=True)
class Exported:
    """An exported model, rows of a file, and the predictions of flowgmm for them."""

    model: Path
    data: Path
    expected: list[dict[str, str]]
    latents: list[dict[str, str]]


def run_flowgmm(folder: Path, *commands: list[str]) -> None:
    """Run commands in a folder, in this process."""
    for words in commands:
        with chdir(folder), patch.object(sys, "argv", ["flowgmm", *words]):
            with pytest.raises(SystemExit) as stop:
                runpy.run_module("flowgmm_cli", run_name="__main__")
            assert not stop.value.code, words


def draw_rows(count: int, labelled: int, seed: int) -> list[dict[str, Any]]:
    """Rows of three kinds with numbers, categories, dates, times and two texts; some cells are missing."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        kind = rng.randrange(3)
        date = f"{2019 + kind}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}"
        words = (_TOPICS[kind] + " " + _TOPICS[(kind + 1) % 3]).split()
        rows.append({
            "number": f"r{number}",
            "x": rng.choice(["", "NA"]) if rng.random() < 0.2 else f"{rng.gauss(3 * kind, 1):.3f}",
            "n": rng.randrange(10 * kind, 10 * kind + 20),
            "colour": rng.choice([["red", "green"], ["green", ""], ["2.0", "NA"]][kind]),
            "code": f"c{rng.randrange(150)}",
            "day": rng.choice([date] * 9 + [""]),
            "hour": f"{rng.randrange(24):02d}:{rng.randrange(60):02d}",
            "title": rng.choice([*words, ""]),
            "body": " ".join(rng.choices(words, k=6)),
            "kind": "abc"[kind] if number < labelled else "",
        })  # fmt: skip
    return rows


def save(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write a csv file."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def read(file: Path) -> list[dict[str, str]]:
    """Read a csv file."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))

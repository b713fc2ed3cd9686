"""`flowgmm features`: the list of layers, the effect of channels, and refused options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import read_rows


def test_layers_are_listed_without_the_data(flowgmm: Any, run: Path) -> None:
    Path("t.csv").unlink()
    outcome = flowgmm("features", str(run))
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["layer", "after", "shape", "channels", "factored", "out"]
    assert lines[1].split()[:2] == ["0", "input"]
    value = flowgmm("features", str(run), "--json").json
    assert (value["schema"], value["run"]) == ("flowgmm/features/1", str(run))
    assert len(value["layers"]) == len(lines) - 1
    first = value["layers"][0]
    assert first == {"layer": 0, "name": "input", "shape": [2], "channels": 2, "factored_out": 0}


def test_rows_of_a_table_come_in_the_units_of_the_input(flowgmm: Any, run: Path) -> None:
    words = ["--layer", "0", "--channel", "1", "--steps", "3", "-n", "2", "--data", "t.csv"]
    outcome = flowgmm("features", *words)
    rows = outcome.rows
    assert [float(row["amount"]) for row in rows] == [-3, 0, 3] * 2
    source = read_rows("t.csv")
    for place in (0, 1):
        three = rows[3 * place : 3 * place + 3]
        assert float(three[1]["x2"]) == pytest.approx(float(source[place]["x2"]), abs=1e-3)
        assert {round(float(row["x1"]), 3) for row in three} == {round(float(source[place]["x1"]), 3)}
        values = [float(row["x2"]) for row in three]
        assert values[0] < values[1] < values[2]
    assert "channel 1; in its standard deviations of" in outcome.err
    value = flowgmm("features", "--layer", "1", "--json", "-n", "1", "--steps", "2").json
    assert (value["layer"], value["n"], len(value["rows"])) == (1, 2, 2)
    assert value["standard_deviation"] > 0


def test_images_become_a_grid(flowgmm: Any, moons_file: Path) -> None:
    words = ["data.name=digits", "data.transforms=[]", "data.views.strong=[]", "data.labels.count=40"]
    words += ["flow={use: glow, scales: 2, steps: 1, hidden: 4, logit: null}", "train.epochs=1"]
    words += ["calibration.method=none", "run.dir=runs", "ood.scores=[{use: nll}]", "ood.default=nll"]
    flowgmm("train", str(moons_file), *words)
    layers = flowgmm("features", "--json").json["layers"]
    assert layers[0]["shape"] == [1, 8, 8]
    assert layers[-1]["shape"] == [8, 2, 2]
    assert layers[-1]["factored_out"] == 32
    for words in (["--layer", "2"], ["--layer", "4", "--channel", "3", "--where", "site", "--at", "0,3"]):
        outcome = flowgmm("features", *words, "-n", "2", "--save", "f.png")
        assert Path("f.png").read_bytes().startswith(b"\x89PNG")
    assert "site; in its standard deviations" in outcome.err
    flowgmm("features", "--layer", "2", "-n", "2", "--save", "f.npz")
    with np.load("f.npz") as arrays:
        assert arrays["pixels"].shape == (14, 8, 8)
        assert arrays["amount"][:3].tolist() == [-3, -2, -1]
    refused = flowgmm("features", "--layer", "2", code=2)
    assert "--save features.png" in refused.err

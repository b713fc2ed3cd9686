"""`flowgmm curve`: files, JSON, resuming, and mistakes."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked import MAIN
from own_files import read_json, read_rows

WORDS = ["train.epochs=1", "calibration.method=none", "data.test_n=40"]


def curve(flowgmm: Any, recipe: Path, *words: str) -> Any:
    return flowgmm("curve", str(recipe), *WORDS, *words)


def test_the_json_and_the_files(flowgmm: Any, moons_file: Path) -> None:
    outcome = curve(flowgmm, moons_file, "--labels", "12,6", "--seeds", "0..1", "--no-baselines", "--json")
    value = outcome.json
    assert value["schema"] == "flowgmm/curve/1"
    assert (value["recipe"], value["labels"], value["seeds"], value["runs"]) == ("moons", [6, 12], [0, 1], 4)
    points = [(row["labels"], row["method"], row["accuracy"]["n"]) for row in value["points"]]
    assert points == [(6, "flowgmm", 2), (12, "flowgmm", 2)]
    folder = Path("curves", "moons")
    assert value["folder"] == str(folder)
    rows = read_rows(folder / "curve.csv")
    assert [f"{row['labels']} {row['seed']}" for row in rows] == ["6 0", "6 1", "12 0", "12 1"]
    for row in rows:
        info = read_json(folder / row["run"] / "run.json")
        assert info["test"]["accuracy"] == float(row["accuracy"])
        assert info["rows"]["labelled"] == int(row["labels"])
        assert info["rows"]["test"] == 40
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert f"written {folder / 'curve.png'}" in outcome.err


def test_finished_points_are_not_trained_again(flowgmm: Any, moons_file: Path) -> None:
    words = ("--labels", "6", "--no-baselines", "--out", "here")
    curve(flowgmm, moons_file, *words, "--seeds", "0")
    model = Path("here/runs/labels-6/seed-0/model.safetensors")
    before = model.stat().st_mtime_ns
    outcome = curve(flowgmm, moons_file, *words, "--seeds", "0..1")
    assert "1 of 2 points are there already" in outcome.err
    assert model.stat().st_mtime_ns == before
    lines = outcome.out.splitlines()
    assert lines[0].startswith("here: test accuracy")
    assert lines[1].split() == ["labels", "seeds", "flowgmm", "NLL", "ECE", "seconds"]
    assert lines[2].split()[:2] == ["6", "2"]

    other = flowgmm("curve", str(moons_file), "train.epochs=2", *words, "--seeds", "0", code=6)
    assert "hint: choose another folder: --out here-2" in other.err


def test_labels_are_chosen_as_suggest_would(flowgmm: Any, moons_file: Path) -> None:
    words = ("--labels", "6,12", "--seeds", "0", "--no-baselines", "--choose", "suggest,random")
    outcome = curve(flowgmm, moons_file, *words, "--json")
    points = [(row["labels"], row["choose"]) for row in outcome.json["points"]]
    assert points == [(6, "suggest"), (6, "random"), (12, "suggest"), (12, "random")]
    assert outcome.json["forecast"] == []  # of two points
    folder = Path("curves", "moons")
    first, second = (set((folder / f"labels/{n}-seed-0.txt").read_text().split()) for n in (6, 12))
    assert (len(first), len(second)) == (6, 12)
    assert first < second
    runs = [read_json(folder / row["run"] / "run.json") for row in read_rows(folder / "curve.csv")]
    assert [info["rows"]["labelled"] for info in runs] == [6, 6, 12, 12]
    again = curve(flowgmm, moons_file, *words)
    assert "4 of 4 points are there already" in again.err
    assert again.out.splitlines()[1].split()[:3] == ["labels", "chosen", "seeds"]


def test_train_and_reports_repeat_the_forecast(flowgmm: Any, moons_file: Path) -> None:
    outcome = curve(flowgmm, moons_file, "--labels", "6,8,12", "--seeds", "0..1", "--no-baselines")
    line = outcome.out.splitlines()[-1]
    assert line.startswith("forecast from 12 labels: 10 more labels: ")
    train = ("train", str(moons_file), *WORDS, "data.labels.count=6", "--seed", "3")
    assert line in flowgmm(*train).out.splitlines()
    assert flowgmm(*train, "--json").json["forecasts"] == [line]
    assert flowgmm(*train, "flow.couplings=1", "--json").json["forecasts"] == []  # another recipe
    run = Path("curves/moons/runs/labels-12/seed-1")
    page = Path(flowgmm("report", str(run), "--json").json["report"]).read_text(encoding="utf-8")
    assert line.replace(">", "&gt;") in page


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--labels", "20;50"], 2, "--labels 20;50"),
        (["--labels", "1"], 2, "1 is below 2"),
        (["--seeds", "4..0"], 2, "--seeds 4..0"),
        (["--choose", "sugest"], 2, "did you mean `suggest`"),
        (["run.seed=3"], 2, "use --seeds instead"),
        (["data.labels.count=3"], 2, "use --labels instead"),
        (["train.epoch=3"], 3, "train.epoch"),
        (["--labels", "6,900", "--seeds", "0"], 5, "labels=900 seed=0"),
    ],
)
def test_mistakes_are_reported_before_training(
    flowgmm: Any, moons_file: Path, words: list[str], code: int, text: str
) -> None:
    outcome = flowgmm("curve", str(moons_file), *words, code=code)
    assert text in outcome.err
    assert outcome.out == ""
    assert not Path("curves").exists()


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    flowgmm: Any, moons_file: Path, start_python: Any
) -> None:
    words = ["curve", str(moons_file), "train.epochs=150", "calibration.method=none"]
    words += ["--labels", "6", "--seeds", "0..1", "--no-baselines"]
    process = start_python(MAIN, *words)
    second = Path("curves/moons/runs/labels-6/seed-1/metrics.jsonl")
    for _ in range(15_000):
        if second.exists() or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "finished points are kept" in text
    assert "hint: flowgmm curve " in text
    assert [row["seed"] for row in read_rows("curves/moons/curve.csv")] == ["0"]
    done = flowgmm(*words)
    assert "1 of 2 points are there already" in done.err

"""Benchmarks of accuracy, of out-of-distribution detection and of steps on images; times are not checked."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowgmm_cli.recipe.load import load_recipe

DIGITS = ("train.epochs=1", "calibration.method=none", "data.transforms.0.dim=8", "flow.hidden=8")
STROKES = ("train.max_steps=20", "search!", "flow.hidden=16", "calibration.method=none")


@pytest.fixture
def accuracy(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("accuracy")


@pytest.fixture
def detection(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("out_of_distribution")


@pytest.fixture
def image_step(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("image_step")


# --- accuracy.py: points are computed once, saved and summarised --------------------------------------------


def test_points_are_computed_once_and_summarised(accuracy: Any, tmp_path: Path) -> None:
    digits = next(data_set for data_set in accuracy.DATA_SETS if data_set.name == "digits")
    methods = ["flowgmm", "knn", "all_labels"]
    benchmark = accuracy.Benchmark(tmp_path, tmp_path, DIGITS)
    first = benchmark.points(digits, 3, methods)
    assert set(first) == set(methods)
    assert first["all_labels"]["accuracy"] > first["knn"]["accuracy"] > 0.2
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("points/*/*.json")}
    assert len(stamps) == 3
    assert benchmark.points(digits, 3, methods) == first
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps

    changed = accuracy.Benchmark(tmp_path, tmp_path, (*DIGITS, "train.lr=1e-3"))
    existing = changed.existing_points(digits, [3], methods)
    # the vectors are the same, the training is not
    assert [len(existing[name]) for name in methods] == [0, 1, 1]

    value = accuracy.report(benchmark, [digits], [3, 4], accuracy.METHODS)
    assert value["data_sets"]["digits"]["summary"]["knn"]["accuracy"]["mean"] == first["knn"]["accuracy"]
    lines = accuracy.table(value, accuracy.METHODS)
    assert lines[0].startswith("| data | labels | flowgmm | logistic regression |")
    assert len({line.count("|") for line in lines}) == 1
    assert f"{first['knn']['accuracy']:.3f}" in lines[2]
    assert any(line.startswith("digits") and " knn " in line for line in accuracy.details(value))
    environment = first["knn"]["environment"]
    assert f"{environment['date']}, {environment['cores']} cores of" in accuracy.footnote(value)
    json.dumps(value, allow_nan=False)


def test_every_entry_names_a_recipe_and_valid_words(accuracy: Any, tmp_path: Path) -> None:
    for data_set in (*accuracy.DATA_SETS, *accuracy.KEEL_REPORT, *accuracy.KEEL_CHOOSE):
        recipe = load_recipe(data_set.recipe, data_set.overrides(shared=tmp_path, work=tmp_path, seed=1))
        assert recipe.data.config.labels.count == data_set.labels


@pytest.mark.parametrize("name", ["pendigits", "susy", "higgs", "trec"])
def test_real_data_become_csv_files(accuracy: Any, tmp_path: Path, name: str) -> None:
    shared = accuracy.data_folder()
    if not shared.is_dir():
        pytest.skip(f"no folder {shared}; FLOWGMM_SHARED_DATA names another")
    next(data_set for data_set in accuracy.DATA_SETS if data_set.name == name).prepare(shared, tmp_path)
    rows = {"pendigits": [7493], "susy": [10_000, 1_000], "higgs": [7_500], "trec": [5_452, 500]}[name]
    classes = {"pendigits": 10, "susy": 2, "higgs": 2, "trec": 6}[name]
    rows_of_files = []
    for file in sorted(tmp_path.iterdir(), reverse=True):
        with file.open(encoding="utf-8", newline="") as lines:
            table = list(csv.DictReader(lines))
        rows_of_files.append(len(table))
        assert len({row["y"] for row in table}) == classes
    assert rows_of_files == rows


# --- out_of_distribution.py: runs and simple detectors on the same vectors, computed once ------------------


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Strokes of three digits around means of their own; the 4 is far from the others."""
    rng = np.random.default_rng(0)
    means = {0: np.zeros(6), 1: np.full(6, 4.0), 4: np.full(6, -12.0)}
    parts = [
        pd.DataFrame(mean + rng.normal(size=(150, 6))).assign(clase=digit) for digit, mean in means.items()
    ]
    folder = tmp_path / "shared" / "pendigits"
    folder.mkdir(parents=True)
    pd.concat(parts).rename(columns=str).to_csv(folder / "pendigits_train.csv", index=False)
    return tmp_path / "shared"


def test_an_omitted_digit_is_detected(
    detection: Any,
    data_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = next(world for world in detection.WORLDS if world.name == "pendigits")
    short = replace(world, words=(*world.words, "data.labels.count=10", *STROKES))
    monkeypatch.setattr(detection, "WORLDS", (short,))
    monkeypatch.setenv("FLOWGMM_SHARED_DATA", str(data_folder))
    work = tmp_path / "work"
    argv = ["out_of_distribution.py", "--only", "pendigits", "--seed", "3", "--work", str(work)]
    monkeypatch.setattr(sys, "argv", argv)
    detection.main()
    printed = capsys.readouterr()
    assert "| pen strokes without the digit 4, 100 labels | the digit 4 | " in printed.out
    (point,) = json.loads((work / "results.json").read_text())["points"]
    assert point["n_out"] == 150
    assert set(point["simple"]) == {"knn", "mahalanobis", "isolation_forest"}
    assert min(point["simple"].values()) > 0.95
    assert point["scores"]["nll"] > 0.95
    assert point["default"] in point["scores"]
    inside = pd.read_csv(work / "data" / "pendigits_in.csv")
    assert set(inside["clase"]) == {0, 1}

    stamp = (work / "points" / "pendigits-3.json").stat().st_mtime_ns
    detection.main()
    assert capsys.readouterr().out == printed.out
    assert (work / "points" / "pendigits-3.json").stat().st_mtime_ns == stamp


def test_every_world_is_a_valid_recipe(detection: Any, tmp_path: Path) -> None:
    for world in detection.WORLDS:
        words = [word.format(shared=tmp_path, work=tmp_path) for word in world.words]
        recipe = load_recipe(world.recipe, words, overlays=world.overlays)
        assert recipe.data.use in ("csv", "hf_text", "images")


# --- image_step.py: both layouts are flows of the same size ------------------------------------------------


def test_image_steps_are_printed_and_saved(
    image_step: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"size": 4, "batch": 3, "hidden": 4, "blocks": 1, "couplings": 1, "classes": 2, "rounds": 1}
    words = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", ["image_step.py", *words, "--json", str(tmp_path / "f.json")])
    image_step.main()
    assert "realnvp_image" in capsys.readouterr().out
    value = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
    assert value["setting"]["hidden"] == 4
    assert [(result["what"], result["precision"]) for result in value["measured"]] == [
        (name, precision) for precision in ("fp32", "bf16") for name in ("other layout", "realnvp_image")
    ]
    assert all(result["images_per_second"] > 0 for result in value["measured"])
    assert value["measured"][1]["ratio"] == 1.0


# --- open_piles.py: classes lose their labels, a share of the unlabelled rows is theirs --------------------


@pytest.fixture
def open_piles(load_benchmark: Callable[[str], Any]) -> Any:
    return load_benchmark("open_piles")


def test_a_pile_has_the_share_of_unnamed_classes_and_labels_of_the_others(
    open_piles: Any, tmp_path: Path
) -> None:
    digits = next(pile for pile in open_piles.PILES if pile.name == "digits")
    for share in (0.0, 0.2, 0.5):
        facts = digits.draw(tmp_path, 3, share, tmp_path)
        rows = np.load(tmp_path / "train.npz")
        labelled = rows["y"] >= 0
        assert labelled.sum() == digits.labels
        assert not np.isin(rows["y"], facts["unnamed"]).any()
        assert facts["true_share"] == pytest.approx(share, abs=0.01)
        assert facts["rows"] == len(rows["x"])
    named = np.load(tmp_path / "named.npz")
    assert set(named["y"]) == set(range(10)) - set(facts["unnamed"])
    assert "y" not in np.load(tmp_path / "unnamed.npz")


def test_a_point_of_an_open_pile_is_computed_once(
    open_piles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*DIGITS, "ood.scores=[{use: nll}, {use: angle_knn}]"]
    argv = ["open_piles.py", "--only", "digits", "--seeds", "3", "--shares", "0.2", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [*argv, *(word for key in words for word in ("--set", key))])
    open_piles.main()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| digits | 20% | ")
    (point,) = json.loads((tmp_path / "results.json").read_text())["points"]
    assert set(point["label_only"]) == {"logistic_regression", "class_means"}
    assert min(point["label_only"].values()) > 0.6
    assert point["default"] in point["scores"]
    (file,) = tmp_path.glob("points/digits/*.json")
    stamp = file.stat().st_mtime_ns
    open_piles.main()
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert file.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_sets_of_flowgmm_stand_beside_those_of_split_conformal_prediction(
    load_benchmark: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    coverage = load_benchmark("coverage")
    assert coverage.split_threshold(np.linspace(0.05, 0.95, 19)) == pytest.approx(0.1)
    assert coverage.split_threshold(np.full(8, 0.5)) == 0  # too few
    monkeypatch.setattr(coverage, "SHORT", ("train.epochs=2", "calibration.folds=2"))
    argv = ["coverage.py", "--only", "digits", "--seeds", "3", "--split", "3", "--work", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    coverage.main()
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("| digits | 50 | 1 | ")
    (point,) = json.loads((tmp_path / "results.json").read_text())["points"]
    assert point["split_flowgmm"]["labels"] == point["split_logistic"]["labels"] == 25
    assert point["flowgmm"]["labels"] == 50
    assert point["split_logistic"]["coverage"] > 0.7
    monkeypatch.setattr(sys, "argv", [*argv, "--report"])
    coverage.main()
    assert capsys.readouterr().out.splitlines()[-1] == line


def test_every_pile_is_a_valid_recipe(open_piles: Any, tmp_path: Path) -> None:
    for pile in open_piles.PILES:
        recipe = load_recipe(pile.recipe, [word.format(folder=tmp_path) for word in pile.words])
        assert recipe.data.config.path.startswith(str(tmp_path))

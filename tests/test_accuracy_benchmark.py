"""`benchmarks/accuracy.py`: points are computed once, saved and summarised."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SHORT = ("train.epochs=1", "calibration.method=none", "data.transforms.0.dim=8", "flow.hidden=8")


@pytest.fixture
def accuracy(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FOLDER))
    import accuracy

    yield accuracy
    for name in ("accuracy", "data_sets"):
        sys.modules.pop(name)


def test_points_are_computed_once_and_summarised(accuracy: Any, tmp_path: Path) -> None:
    digits = next(data_set for data_set in accuracy.DATA_SETS if data_set.name == "digits")
    methods = ["flowgmm", "knn", "all_labels"]
    benchmark = accuracy.Benchmark(tmp_path, tmp_path, SHORT)
    first = benchmark.points(digits, 3, methods)
    assert set(first) == set(methods)
    assert first["all_labels"]["accuracy"] > first["knn"]["accuracy"] > 0.2
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("points/*/*.json")}
    assert len(stamps) == 3
    assert benchmark.points(digits, 3, methods) == first
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps

    changed = accuracy.Benchmark(tmp_path, tmp_path, (*SHORT, "train.lr=1e-3"))
    existing = changed.existing_points(digits, [3], methods)
    assert [len(existing[name]) for name in methods] == [
        0,
        1,
        1,
    ]  # the vectors are the same, the training is not

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


def test_a_draw_sets_the_split_only_where_the_data_have_no_test_rows(accuracy: Any, tmp_path: Path) -> None:
    by_name = {data_set.name: data_set for data_set in accuracy.DATA_SETS}
    own = by_name["susy"].overrides(shared=tmp_path, work=tmp_path, seed=7)
    drawn = by_name["higgs"].overrides(shared=tmp_path, work=tmp_path, seed=7)
    assert {"run.seed=7", "data.labels.seed=7", "data.labels.count=40"} <= set(own)
    assert "data.split.seed=7" in drawn
    assert "data.split.seed=7" not in own


def test_every_entry_names_a_recipe_and_valid_words(accuracy: Any, tmp_path: Path) -> None:
    from flowgmm_cli.recipe.load import load_recipe

    for data_set in accuracy.DATA_SETS:
        recipe = load_recipe(data_set.recipe, data_set.overrides(shared=tmp_path, work=tmp_path, seed=1))
        assert recipe.data.config.labels.count == data_set.labels


@pytest.mark.parametrize("name", ["pendigits", "susy", "higgs", "trec"])
def test_real_data_become_csv_files(accuracy: Any, tmp_path: Path, name: str) -> None:
    import csv

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

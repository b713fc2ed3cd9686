"""A study trains each point once, goes on where it stopped, and mixes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError, InterruptedRunError, RunError
from flowgmm_cli.experiments.check import check_data
from flowgmm_cli.experiments.points import Point, curve_points
from flowgmm_cli.experiments.study import Study, Work
from flowgmm_cli.training.interrupt import Interrupt

WORDS = ["train.epochs=2"]


@pytest.fixture
def points(moons_file: Path) -> list[Point]:
    return curve_points(str(moons_file), WORDS, [6, 12], [0, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "curve"


def study_of(
    folder: Path, points: Sequence[Point], words: Sequence[str] = WORDS, kind: str = "curve"
) -> Study:
    return Study(folder, kind=kind, recipe=points[0].recipe, keys=sorted(points[0].settings), words=words)


class StopsAfter(Interrupt):
    """An interrupt that comes after some looks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @contextmanager
    def deferred(self) -> Iterator[None]:
        yield


def test_every_point_is_an_ordinary_run(folder: Path, points: list[Point]) -> None:
    study = study_of(folder, points)
    study.claim(points)
    found = [study.carry_out(point, Work()) for point in points[:2]]
    run = folder / "runs" / "labels-6" / "seed-1"
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert info["status"] == "done"
    assert (run / "model.safetensors").is_file()
    assert found[1].run == "runs/labels-6/seed-1"
    assert found[1].methods["flowgmm"]["accuracy"] == info["test"]["accuracy"]
    assert found[1].criterion == (info["best"]["metric"], info["best"]["value"])
    assert study.results() == found


def test_finished_points_are_not_trained_again(folder: Path, points: list[Point]) -> None:
    study = study_of(folder, points)
    study.claim(points)
    study.carry_out(points[0], Work())
    file = study.path(points[0]) / "model.safetensors"
    before = file.stat().st_mtime_ns
    again = study_of(folder, points)
    again.claim(points)
    assert [again.finished(point, baselines=False) for point in points] == [True, False, False, False]
    again.carry_out(points[0], Work())
    assert file.stat().st_mtime_ns == before


def test_baselines_are_added_to_a_finished_point(folder: Path, points: list[Point]) -> None:
    study = study_of(folder, points)
    study.claim(points)
    study.carry_out(points[0], Work())
    assert not study.finished(points[0], baselines=True)
    result = study.carry_out(points[0], Work(baselines=True))
    assert next(iter(result.methods)) == "flowgmm"
    assert {"logistic_regression", "knn"} < set(result.methods)
    assert study.finished(points[0], baselines=True)
    assert study.results() == [result]


def test_an_interrupted_point_is_resumed_to_the_same_end(
    folder: Path, tmp_path: Path, points: list[Point]
) -> None:
    whole = study_of(tmp_path / "whole", points)
    whole.claim(points)
    expected = whole.carry_out(points[0], Work())

    study = study_of(folder, points)
    study.claim(points)
    with pytest.raises(InterruptedRunError):
        study.carry_out(points[0], Work(interrupt=StopsAfter(3)))
    assert study.results() == []
    assert not study.finished(points[0], baselines=False)
    found = study.carry_out(points[0], Work())
    metrics = [dict(one.methods["flowgmm"]) for one in (expected, found)]
    assert [one.pop("seconds") > 0 for one in metrics] == [True, True]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("change", ["words", "recipe", "kind", "foreign", "file"])
def test_a_folder_of_something_else_is_refused(
    folder: Path, moons_file: Path, points: list[Point], change: str
) -> None:
    if change == "file":
        folder.write_text("mine", encoding="utf-8")
    elif change == "foreign":
        folder.mkdir()
        (folder / "mine.txt").write_text("mine", encoding="utf-8")
    else:
        study_of(folder, points).claim(points)
    words, kind = (
        (["train.epochs=3"] if change == "words" else WORDS),
        ("sweep" if change == "kind" else "curve"),
    )
    if change == "recipe":
        text = moons_file.read_text(encoding="utf-8").replace("couplings: 2", "couplings: 4")
        moons_file.write_text(text, encoding="utf-8")
    others = curve_points(str(moons_file), words, [6], [0])
    with pytest.raises(RunError) as caught:
        study_of(folder, others, words, kind).claim(others)
    assert "--out" in str(caught.value.hint)
    assert caught.value.details


def test_a_folder_from_before_there_were_overlays_is_taken_up_again(
    folder: Path, points: list[Point]
) -> None:
    study_of(folder, points).claim(points)
    file = folder / "study.json"
    before = json.loads(file.read_text(encoding="utf-8"))
    assert before.pop("overlays") == []
    file.write_text(json.dumps(before), encoding="utf-8")
    study_of(folder, points).claim(points)
    assert json.loads(file.read_text(encoding="utf-8"))["overlays"] == []


def test_a_run_of_another_recipe_is_refused(
    folder: Path, moons_file: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the words are the same, but an environment variable in it is not."""
    text = moons_file.read_text(encoding="utf-8").replace("lr: 1e-2", "lr: '${env:RATE:-1e-2}'")
    moons_file.write_text(text, encoding="utf-8")
    before = curve_points(str(moons_file), WORDS, [6], [0])
    study = study_of(folder, before)
    study.claim(before)
    study.carry_out(before[0], Work())
    monkeypatch.setenv("RATE", "1e-3")
    after = curve_points(str(moons_file), WORDS, [6], [0])
    with pytest.raises(RunError) as caught:
        study_of(folder, after).claim(after)
    assert "train section" in caught.value.details[0]


def test_more_points_join_those_that_are_there(folder: Path, moons_file: Path) -> None:
    first = curve_points(str(moons_file), WORDS, [12], [0])
    second = curve_points(str(moons_file), WORDS, [6], [0])
    for points in (first, second):
        study = study_of(folder, points)
        study.claim(points)
        study.carry_out(points[0], Work())
    assert [one.settings["labels"] for one in study.results()] == [6, 12]


def test_data_that_cannot_do_is_told_before_training(moons_file: Path) -> None:
    points = curve_points(str(moons_file), [], [6, 5000], [0])
    with pytest.raises(DataError, match="labels=5000"):
        check_data(points, DataContext())
    check_data(points[:1], DataContext())
    none = curve_points(str(moons_file), ["data.test_n=0", "data.split.test=0"], [6], [0])
    with pytest.raises(DataError, match="no test rows"):
        check_data(none, DataContext())

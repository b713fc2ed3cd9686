"""An experiment trains each point once, goes on where it stopped, and mixes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError, InterruptedRunError, RunError
from flowgmm_cli.experiments.experiment import Experiment, RunOptions
from flowgmm_cli.experiments.points import Point, check_data, curve_points
from flowgmm_cli.runs import create_run
from flowgmm_cli.training.callbacks import Interrupt

WORDS = ["train.epochs=2"]
NO_TEST_ROWS = ["data.test_n=0", "data.split.test=0"]


@pytest.fixture
def points(moons_file: Path) -> list[Point]:
    return curve_points(str(moons_file), WORDS, [6, 12], [0, 1])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "curve"


def make_experiment(
    folder: Path, points: Sequence[Point], words: Sequence[str] = WORDS, kind: str = "curve"
) -> Experiment:
    recipe, keys = points[0].recipe, sorted(points[0].settings)
    experiment = Experiment(folder, kind=kind, recipe=recipe, keys=keys, overrides=words)
    experiment.open(points)
    return experiment


class StopsAfter(Interrupt):
    """An interrupt that comes after a number of checks."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    def is_requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    @contextmanager
    def defer(self) -> Iterator[None]:
        yield


def test_baselines_are_added_to_a_finished_point(folder: Path, points: list[Point]) -> None:
    experiment = make_experiment(folder, points)
    experiment.run_point(points[0], RunOptions())
    assert not experiment.is_finished(points[0], baselines=True)
    result = experiment.run_point(points[0], RunOptions(baselines=True))
    assert next(iter(result.methods)) == "flowgmm"
    assert {"logistic_regression", "knn"} < set(result.methods)
    assert experiment.is_finished(points[0], baselines=True)
    assert experiment.read_results() == [result]


def test_an_interrupted_point_is_resumed_to_the_same_end(
    folder: Path, tmp_path: Path, points: list[Point]
) -> None:
    expected = make_experiment(tmp_path / "whole", points).run_point(points[0], RunOptions())
    experiment = make_experiment(folder, points)
    with pytest.raises(InterruptedRunError):
        experiment.run_point(points[0], RunOptions(interrupt=StopsAfter(3)))
    assert experiment.read_results() == []
    assert not experiment.is_finished(points[0], baselines=False)
    resumed = experiment.run_point(points[0], RunOptions())
    metrics = [dict(result.methods["flowgmm"]) for result in (expected, resumed)]
    assert [result.pop("seconds") > 0 for result in metrics] == [True, True]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize("change", ["words", "recipe", "kind", "foreign", "file"])
def test_a_folder_with_other_contents_is_refused(
    folder: Path, moons_file: Path, points: list[Point], change: str
) -> None:
    if change == "file":
        folder.write_text("mine", encoding="utf-8")
    elif change == "foreign":
        folder.mkdir()
        (folder / "mine.txt").write_text("mine", encoding="utf-8")
    else:
        experiment = make_experiment(folder, points)
        create_run(points[0].recipe, argv=[], directory=experiment.path(points[0]))
    words = ["train.epochs=3"] if change == "words" else WORDS
    kind = "sweep" if change == "kind" else "curve"
    if change == "recipe":
        text = moons_file.read_text(encoding="utf-8").replace("couplings: 2", "couplings: 4")
        moons_file.write_text(text, encoding="utf-8")
    others = curve_points(str(moons_file), words, [6], [0])
    with pytest.raises(RunError) as caught:
        make_experiment(folder, others, words, kind)
    assert "--out" in str(caught.value.hint)
    assert caught.value.details


def test_a_folder_without_runs_may_belong_to_another_experiment(
    folder: Path, moons_file: Path, points: list[Point]
) -> None:
    make_experiment(folder, points)
    others = curve_points(str(moons_file), ["train.epochs=3"], [6], [0])
    experiment = make_experiment(folder, others, ["train.epochs=3"])
    assert experiment.read_results() == []
    assert "train.epochs=3" in (folder / "study.json").read_text("utf-8")


def test_a_run_of_another_recipe_is_refused(
    folder: Path, moons_file: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file and the words are the same, but an environment variable in it is not."""
    text = moons_file.read_text(encoding="utf-8").replace("lr: 1e-2", "lr: '${env:RATE:-1e-2}'")
    moons_file.write_text(text, encoding="utf-8")
    before = curve_points(str(moons_file), WORDS, [6], [0])
    experiment = make_experiment(folder, before)
    experiment.run_point(before[0], RunOptions())
    monkeypatch.setenv("RATE", "1e-3")
    after = curve_points(str(moons_file), WORDS, [6], [0])
    with pytest.raises(RunError) as caught:
        make_experiment(folder, after)
    assert "train section" in caught.value.details[0]


def test_new_points_are_added_to_a_folder(folder: Path, moons_file: Path) -> None:
    first = curve_points(str(moons_file), WORDS, [12], [0])
    second = curve_points(str(moons_file), WORDS, [6], [0])
    for points in (first, second):
        experiment = make_experiment(folder, points)
        experiment.run_point(points[0], RunOptions())
    assert [result.settings["labels"] for result in experiment.read_results()] == [6, 12]


def test_unusable_data_is_reported_before_training(moons_file: Path) -> None:
    points = curve_points(str(moons_file), [], [6, 5000], [0])
    with pytest.raises(DataError, match="labels=5000"):
        check_data(points, DataContext())
    check_data(points[:1], DataContext())
    (point,) = curve_points(str(moons_file), NO_TEST_ROWS, [6], [0])
    with pytest.raises(DataError, match=r"labels=6 seed=0: .* there are no test rows") as caught:
        check_data([point], DataContext())
    assert "data.split.test=0.2" in str(caught.value.hint)


def test_without_test_rows_the_accuracy_is_cross_fitted(folder: Path, moons_file: Path) -> None:
    words = [*WORDS, *NO_TEST_ROWS, "search={candidates: {a: {}}, folds: 2}"]
    points = curve_points(str(moons_file), words, [24], [0])
    check_data(points, DataContext())
    experiment = make_experiment(folder, points, words)
    result = experiment.run_point(points[0], RunOptions(baselines=True))
    info = json.loads((experiment.path(points[0]) / "run.json").read_text(encoding="utf-8"))
    assert info["test"] is None
    assert result.split == "cross_fitted"
    assert result.methods["flowgmm"]["accuracy"] == info["cross_fitted"]["accuracy"]
    assert {"logistic_regression", "knn"} < set(result.methods)
    assert experiment.read_results() == [result]

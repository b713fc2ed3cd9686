from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.outputs import TEST_RANKING_NOTE, rank, write_curve, write_sweep
from flowgmm_cli.experiments.points import curve_points
from flowgmm_cli.experiments.results import Result, group_results


def result(
    settings: dict[str, Any], seed: int, accuracy: float, criterion: tuple[str, float], **others: float
) -> Result:
    methods = {
        name: {"accuracy": value, "nll": 0.5, "ece": 0.1, "seconds": 1.0} for name, value in others.items()
    }
    flowgmm = {"accuracy": accuracy, "balanced_accuracy": accuracy, "nll": 0.4, "ece": 0.05, "seconds": 3.0}
    return Result(settings, seed, "runs/x", {"flowgmm": flowgmm, **methods}, criterion)


@pytest.fixture
def experiment(moons_file: Path, tmp_path: Path) -> Experiment:
    points = curve_points(str(moons_file), [], [6], [0])
    return Experiment(tmp_path / "out", kind="curve", recipe=points[0].recipe, keys=["labels"], overrides=[])


def test_a_curve_is_csv_json_and_png(experiment: Experiment) -> None:
    results = [
        result({"labels": labels}, seed, 0.8 + labels / 1000 + seed / 100, ("monitor.loss", 1.0), knn=0.7)
        for labels in (20, 50)
        for seed in (0, 1)
    ]
    value = write_curve(experiment, results)
    assert value["schema"] == "flowgmm/curve/1"
    assert (value["labels"], value["seeds"], value["runs"]) == ([20, 50], [0, 1], 4)
    first = value["points"][0]
    assert (first["labels"], first["method"]) == (20, "flowgmm")
    assert first["accuracy"]["mean"] == pytest.approx(0.825)
    written = json.loads((experiment.folder / "curve.json").read_text(encoding="utf-8"))
    assert {key: written[key] for key in value} == value
    assert len(written["rows"]) == 8
    assert (experiment.folder / "curve.csv").read_text(encoding="utf-8").count("\n") == 9
    assert (experiment.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in experiment.folder.iterdir()} == {"curve.csv", "curve.json", "curve.png"}


SWEEP = [
    result({"flow.couplings": "2"}, 0, 0.9, ("val.accuracy", 0.6)),
    result({"flow.couplings": "4"}, 0, 0.8, ("val.accuracy", 0.7)),
]


def test_a_sweep_is_ranked_by_labelled_held_out_rows(experiment: Experiment) -> None:
    groups, note = rank(group_results(SWEEP))
    assert [group.settings["flow.couplings"] for group in groups] == ["4", "2"]
    assert "val.accuracy" in note
    losses = [
        result(group.settings, 0, 0.5, ("val.nll", value))
        for group, value in zip(SWEEP, (0.2, 0.9), strict=True)
    ]  # type: ignore[arg-type]
    assert [group.settings["flow.couplings"] for group in rank(group_results(losses))[0]] == ["2", "4"]


def test_a_sweep_without_labelled_held_out_rows_is_ranked_by_test_accuracy_with_a_warning(
    experiment: Experiment,
) -> None:
    blind = [
        result(dict(swept.settings), 0, swept.methods["flowgmm"]["accuracy"], ("monitor.loss", 9.0))
        for swept in SWEEP
    ]
    value = write_sweep(experiment, blind)
    assert value["schema"] == "flowgmm/sweep/1"
    assert [group["settings"]["flow.couplings"] for group in value["combinations"]] == ["2", "4"]
    assert value["note"] == TEST_RANKING_NOTE
    assert "better on these rows than it is" in TEST_RANKING_NOTE
    assert value["combinations"][0]["criterion"]["metric"] == "monitor.loss"
    assert (experiment.folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_without_finished_runs_results_are_empty(experiment: Experiment) -> None:
    assert write_curve(experiment, [])["points"] == []
    assert not (experiment.folder / "curve.png").exists()

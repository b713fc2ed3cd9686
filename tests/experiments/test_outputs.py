"""Experiments write csv, JSON and readable figures."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from flowgmm_cli.experiments.experiment import Experiment
from flowgmm_cli.experiments.outputs import (
    MAX_COMBINATIONS,
    curve_figure,
    rank,
    separate,
    sweep_figure,
    write_curve,
    write_sweep,
)
from flowgmm_cli.experiments.points import curve_points
from flowgmm_cli.experiments.results import Result, group_results
from flowgmm_cli.report.figures import png


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
    assert value["measure"] == "test accuracy"
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
    ranked, note = rank(group_results(SWEEP), "test accuracy")
    assert [group["settings"]["flow.couplings"] for group in ranked] == ["4", "2"]
    assert "val.accuracy" in note
    losses = [
        result(dict(group.settings), 0, 0.5, ("val.nll", value))
        for group, value in zip(SWEEP, (0.2, 0.9), strict=True)
    ]
    assert [group["settings"]["flow.couplings"] for group in rank(group_results(losses), "")[0]] == ["2", "4"]


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
    assert value["note"].startswith(
        "sorted by test accuracy: the best of several settings looks better on these"
    )
    assert value["combinations"][0]["criterion"]["metric"] == "monitor.loss"
    assert (experiment.folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_without_finished_runs_results_are_empty(experiment: Experiment) -> None:
    assert write_curve(experiment, [])["points"] == []
    assert not (experiment.folder / "curve.png").exists()


def size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of a PNG file states."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure: Any) -> str:
    with warnings.catch_warnings(action="ignore"):  # of letters that the font lacks
        figure.canvas.draw()
    return "\n".join(item.get_text() for item in figure.findobj(Text))


def groups(method: str, **accuracies: tuple[float, float, float]) -> list[dict[str, Any]]:
    """Groups of a method by number of labels, each with the mean, the minimum and the maximum."""
    summaries = {
        int(labels[1:]): dict(zip(("mean", "min", "max"), values, strict=True))
        for labels, values in accuracies.items()
    }
    return [
        {"settings": {"labels": labels}, "method": method, "accuracy": summary}
        for labels, summary in summaries.items()
    ]


CURVES = [
    *groups("flowgmm", n20=(0.8, 0.7, 0.9), n50=(0.85, 0.8, 0.9), n200=(0.9, 0.88, 0.92)),
    *groups("knn", n20=(0.6, 0.5, 0.7), n200=(0.9, 0.85, 0.93)),
    *groups("logistic_regression", n20=(0.7, 0.7, 0.7), n50=(0.75, 0.7, 0.8), n200=(0.9, 0.9, 0.9)),
]


def test_a_curve_draws_the_means_it_is_given() -> None:
    figure = curve_figure(CURVES, title="digits $", subtitle="5 seeds", measure="test accuracy")
    axes = figure.axes[0]
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]  # type: ignore[union-attr]
    assert sorted(lines) == [
        ([20, 50, 200], [0.7, 0.75, 0.9]), ([20, 50, 200], [0.8, 0.85, 0.9]), ([20, 200], [0.6, 0.9])
    ]  # fmt: skip
    assert axes.get_xscale() == "log"
    words = texts(figure)
    for text in ("digits $", "5 seeds", "kNN", "logistic regression", "flowgmm"):
        assert text in words
    assert size(png(figure))[0] > 900
    single = groups("flowgmm", n20=(0.5, 0.5, 0.5))
    assert size(png(curve_figure(single, title="x", subtitle="", measure="accuracy")))[0] > 500


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0, 0.5, 1.2, 1.3], [0.1, 5.0], [1.0]])
def test_names_are_moved_apart_and_keep_their_order_and_middle(values: list[float]) -> None:
    moved = separate(values, 1.0)
    assert all(gap >= 1 - 1e-9 for gap in np.diff(moved))
    assert np.mean(moved) == pytest.approx(np.mean(values))


def test_a_sweep_shows_every_seed_and_the_best_first() -> None:
    entries = [("flow.couplings=2", [0.9, 0.92]), ("flow.couplings=4", [0.8, 0.85])]
    figure = sweep_figure(entries, title="digits", subtitle="2 seeds", measure="test accuracy")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["flow.couplings=2", "flow.couplings=4"]
    low, high = figure.axes[0].get_ylim()
    assert low > high  # the first is at the top
    assert {"0.9100", "0.8250"} <= set(texts(figure).split("\n"))


def test_a_sweep_of_very_many_settings_leaves_out_the_worst() -> None:
    entries = [(f"k={index}", [1 - index / 1000]) for index in range(MAX_COMBINATIONS + 7)]
    figure = sweep_figure(entries, title="t", subtitle="s", measure="test accuracy")
    assert "7 more, all worse, not shown" in texts(figure)
    assert size(png(figure))[1] < 4000

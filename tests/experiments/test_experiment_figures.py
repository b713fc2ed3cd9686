"""Learning curves and sweeps show the numbers that they are given."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from matplotlib.text import Text

from flowgmm_cli.experiments.outputs import (
    MAX_COMBINATIONS,
    MethodCurve,
    curve_figure,
    separate,
    sweep_figure,
)
from flowgmm_cli.report.figures import png


def size(data: bytes) -> tuple[int, int]:
    """Width and height that the header of a PNG file states."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font lacks
        figure.canvas.draw()
    return "\n".join(item.get_text() for item in figure.findobj(Text))


CURVES = [
    MethodCurve("flowgmm", [20, 50, 200], [0.8, 0.85, 0.9], [0.7, 0.8, 0.88], [0.9, 0.9, 0.92]),
    MethodCurve("knn", [20, 200], [0.6, 0.9], [0.5, 0.85], [0.7, 0.93]),
    MethodCurve("logistic_regression", [20, 50, 200], [0.7, 0.75, 0.9], [0.7, 0.7, 0.9], [0.7, 0.8, 0.9]),
]


def test_a_curve_draws_the_means_it_is_given() -> None:
    figure = curve_figure(CURVES, title="digits $", subtitle="5 seeds")
    axes = figure.axes[0]
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]  # type: ignore[union-attr]
    for curve in CURVES:
        assert (list(curve.x), list(curve.mean)) in lines
    assert axes.get_xscale() == "log"
    words = texts(figure)
    for text in ("digits $", "5 seeds", "kNN", "logistic regression", "flowgmm"):
        assert text in words
    assert size(png(figure))[0] > 900


def test_a_curve_with_a_single_number_of_labels_can_be_drawn() -> None:
    curve = [MethodCurve("flowgmm", [20], [0.5], [0.5], [0.5])]
    assert size(png(curve_figure(curve, title="x")))[0] > 500


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [0.0, 0.5, 1.2, 1.3], [0.1, 5.0], [1.0]])
def test_names_are_moved_apart_and_keep_their_order_and_middle(values: list[float]) -> None:
    moved = separate(values, 1.0)
    assert all(gap >= 1 - 1e-9 for gap in np.diff(moved))
    assert np.mean(moved) == pytest.approx(np.mean(values))


def test_a_sweep_shows_every_seed_and_the_best_first() -> None:
    entries = [("flow.couplings=2", [0.9, 0.92]), ("flow.couplings=4", [0.8, 0.85])]
    figure = sweep_figure(entries, title="digits", subtitle="2 seeds")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["flow.couplings=2", "flow.couplings=4"]
    low, high = figure.axes[0].get_ylim()
    assert low > high  # the first is at the top
    assert {"0.9100", "0.8250"} <= set(texts(figure).split("\n"))


def test_a_sweep_of_very_many_settings_leaves_out_the_worst() -> None:
    entries = [(f"k={index}", [1 - index / 1000]) for index in range(MAX_COMBINATIONS + 7)]
    figure = sweep_figure(entries, title="t", subtitle="s")
    assert "7 more, all worse, not shown" in texts(figure)
    assert size(png(figure))[1] < 4000

"""The histogram of scores of in-distribution and other rows."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.report.figures import png
from flowgmm_cli.report.ood import histogram_figure

RNG = np.random.default_rng(0)
INSIDE = RNG.gamma(2.0, size=2000)


@pytest.mark.parametrize(
    "outside",
    [RNG.gamma(6.0, size=300), 10 ** RNG.uniform(0, 30, 300), np.array([4.0]), np.full(3, -1e9)],
    ids=["near", "far", "one row", "far below"],
)
def test_every_row_is_in_a_bar_and_the_threshold_visible(outside: np.ndarray) -> None:
    figure = histogram_figure(INSIDE, outside, threshold=5.0, score="latent_knn", auroc=0.5)
    (axes,) = figure.axes
    for line in axes.patches:
        values = line.get_data().values
        assert values.sum() == pytest.approx(1)
    low, high = axes.get_xlim()
    assert low < 5.0 < high
    assert png(figure).startswith(b"\x89PNG")


def test_the_axis_is_asinh_scaled_for_far_rows_only() -> None:
    near = histogram_figure(INSIDE, INSIDE + 5, threshold=5.0, score="nll").axes[0]
    far = histogram_figure(INSIDE, INSIDE * 1e4, threshold=5.0, score="nll").axes[0]
    assert (near.get_xscale(), far.get_xscale()) == ("linear", "asinh")


def test_the_legend_states_the_share_of_flagged_rows() -> None:
    figure = histogram_figure(
        np.array([0.0, 1, 2, 9]),
        np.array([5.0, 6]),
        threshold=4.0,
        score="nll",
        name_in="a $x$",
        name_out="b",
    )
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["a $x$ · 25.0% flagged", "b · 100.0% flagged"]


def test_equal_scores_can_be_drawn() -> None:
    figure = histogram_figure(np.zeros(5), np.zeros(2), threshold=0.0, score="entropy")
    assert png(figure).startswith(b"\x89PNG")

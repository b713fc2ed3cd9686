"""Rarity of scores, and `combined`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from score_rows import component, fit_score

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.model import Model
from flowgmm_cli.scores.combination import Tail

Draw = Callable[..., ScoreInputs]


def test_rarity_of_held_out_values_is_their_rank() -> None:
    tail = Tail.fit(np.array([3.0, 1.0, 2.0, 4.0]))
    np.testing.assert_allclose(tail(np.array([1.0, 2, 3, 4])), -np.log([4 / 5, 3 / 5, 2 / 5, 1 / 5]))
    np.testing.assert_allclose(tail(np.array([2.5])), -np.log([3 / 5, 2 / 5]).mean())


@pytest.mark.parametrize(
    ("law", "shape"), [(stats.expon(), 0.0), (stats.norm(), 0.0), (stats.genpareto(0.4), 0.4)]
)
def test_far_values_are_as_rare_as_they_are(law: stats.rv_continuous, shape: float) -> None:
    sample = law.rvs(20_000, random_state=np.random.default_rng(0))
    tail = Tail.fit(sample)
    assert tail.shape == pytest.approx(shape, abs=0.12)
    for share in (0.5, 1e-2, 1e-3, 1e-5):
        assert tail(np.array([law.isf(share)]))[0] == pytest.approx(-np.log(share), rel=0.25)


values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60).map(np.array)


@settings(max_examples=150, deadline=None)
@given(held_out=values, rows=st.lists(st.floats(allow_nan=False), min_size=2, max_size=30).map(np.array))
def test_rarity_never_falls_and_is_finite_and_positive(held_out: np.ndarray, rows: np.ndarray) -> None:
    result = Tail.fit(held_out)(np.sort(rows))
    assert np.isfinite(result).all()
    assert (result >= 0).all()
    assert (np.diff(result) >= -1e-12 * np.abs(result[1:])).all()


def test_rarity_rises_between_held_out_values_that_differ_by_the_smallest_numbers() -> None:
    tail = Tail.fit(np.array([0.0, 1e-310, 1.0]))
    result = tail(np.array([0.0, 5e-311, 1e-310, 0.5, 1.0]))
    assert np.isfinite(result).all()
    assert (np.diff(result) >= 0).all()


@pytest.mark.parametrize("size", [1, 2, 5, 300, 30_000])
def test_far_rows_keep_their_order(size: int) -> None:
    held_out = np.random.default_rng(size).gamma(2.0, size=size)
    far = held_out.max() + np.array([0.0, 0.1, 1, 10, 1e3, 1e6, 1e30])
    assert (np.diff(Tail.fit(held_out)(far)) > 0).all()


def test_a_tail_of_many_values_stores_few_and_hardly_changes() -> None:
    held_out = np.random.default_rng(0).normal(size=50_000)
    tail = Tail.fit(held_out)
    assert len(tail.values) <= 1000
    at = np.linspace(-3.5, 3.9, 200)
    np.testing.assert_allclose(tail(at), -np.log((held_out[None] >= at[:, None]).mean(1)), atol=0.12)


@pytest.mark.parametrize("how", ["sum", "max"])
def test_scores_are_combined_by_their_rarity(draw: Draw, gaussian: Model, how: str) -> None:
    train, held_out, rows = draw(200), draw(150, seed=1), draw(50, seed=2)
    names = ["entropy", "mahalanobis", "nll"]
    both = fit_score("combined", train, held_out, gaussian, of=[component(name) for name in names], how=how)
    rarities = []
    for name in names:
        fitted = fit_score(name, train, held_out, gaussian)
        rarities.append(Tail.fit(fitted(held_out))(fitted(rows)))
    np.testing.assert_allclose(both(rows), getattr(np, how)(rarities, axis=0))

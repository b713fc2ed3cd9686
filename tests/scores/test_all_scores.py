"""Contract of every score."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from score_rows import Identity, component, fit_score, make_inputs

from flowgmm_cli.api import Score, ScoreInputs
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture, Model
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import STANDARD_SCORES
from flowgmm_cli.scores.base import take_rows
from flowgmm_cli.scores.specs import SPECS

Draw = Callable[..., ScoreInputs]
# `unknown` is constant under a model without nameless components, see test_posterior.py
every_score = pytest.mark.parametrize("name", [name for name in SPECS if name != "unknown"])
DOUBT = {"entropy", "max_posterior", "label_posterior"}  # far rows have a certain class
DIRECTION = {"angle_knn", "label_angle"}  # however far a row is


def test_a_recipe_has_all_scores_but_two_by_default() -> None:
    left_out = {"typicality", "latent_radius"}
    assert tuple(name for name in SPECS if name not in left_out) == STANDARD_SCORES


@every_score
def test_higher_is_further_out(name: str, draw: Draw, gaussian: Model) -> None:
    score = fit_score(name, draw(600), draw(300, seed=1), gaussian)
    out = torch.zeros(200, 4) if name in DOUBT else draw(200, seed=2).x + 6 * torch.ones(4)
    out = make_inputs(gaussian, out, out.reshape(-1, 2, 2))
    assert auroc(score(draw(300, seed=3)), score(out)) > 0.95


@every_score
def test_a_row_s_score_depends_on_that_row_alone(name: str, draw: Draw, gaussian: Model) -> None:
    score = fit_score(name, draw(700), draw(300, seed=1), gaussian)
    rows = draw(1100, seed=2)  # more than any block
    together = score(rows)
    assert together.shape == (1100,)
    assert together.dtype == np.float64
    for index in ([], [0], [1099, 3], list(range(500, 530))):
        alone = score(take_rows(rows, np.array(index, dtype=int)))
        assert alone.shape == (len(index),)
        np.testing.assert_allclose(alone, together[index], rtol=1e-6, atol=1e-6)


@every_score
def test_the_fitted_score_is_restored_from_arrays(name: str, draw: Draw, gaussian: Model) -> None:
    score = fit_score(name, draw(200), draw(100, seed=1), gaussian)
    values, arrays = score.state()
    assert all(array.dtype.kind in "fi" for array in arrays.values())
    again = build(component(name))
    again.load_state(values, arrays)
    rows = draw(50, seed=2)
    np.testing.assert_array_equal(again(rows), score(rows))


@every_score
def test_a_single_row_is_enough_to_fit(name: str, draw: Draw, gaussian: Model) -> None:
    score = fit_score(name, draw(1), draw(1, seed=1), gaussian)
    assert np.isfinite(score(draw(20, seed=2))).all()


@every_score
def test_equal_rows_are_no_division_by_zero(name: str, gaussian: Model) -> None:
    x = torch.ones(30, 4)
    rows = make_inputs(gaussian, x, x.reshape(-1, 2, 2))
    score = fit_score(name, rows, rows, gaussian)
    other = torch.cat([x[:1], x[:1] + 1])
    near, far = score(make_inputs(gaussian, other, other.reshape(-1, 2, 2)))
    assert np.isfinite([near, far]).all()
    if name.endswith(("knn", "mahalanobis")) and name not in DIRECTION:
        assert far > near


MODEL = FlowMixture(Identity(), GaussianMixture(torch.tensor([[-3.0, 0, 0, 0], [3.0, 0, 0, 0]])))


@cache
def fit_cached(name: str) -> Score:
    x, _ = MODEL.sample(80, torch.Generator().manual_seed(0))
    rows = make_inputs(MODEL, x, x.reshape(-1, 2, 2))
    return fit_score(name, rows, rows, MODEL)


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@every_score
@settings(max_examples=20, deadline=None)
@given(cells=st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=6))
def test_every_value_is_finite_for_any_row(name: str, cells: list[list[float]]) -> None:
    score = fit_cached(name)
    x = torch.tensor(cells)
    result = score(make_inputs(MODEL, x, x.reshape(-1, 2, 2)))
    assert result.shape == (len(cells),)
    assert np.isfinite(result).all()


@every_score
def test_rows_out_of_all_bounds_are_far_out(name: str, draw: Draw, gaussian: Model) -> None:
    if name in DOUBT | DIRECTION:
        pytest.skip("does not see distances")
    score = fit_score(name, draw(300), draw(200, seed=1), gaussian)
    x = torch.tensor([[1e30] * 4, [-3e38] * 4, [1e6] * 4])
    assert score(make_inputs(gaussian, x, x.reshape(-1, 2, 2))).min() > score(draw(500, seed=2)).max()

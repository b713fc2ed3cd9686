"""Contract of every score."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from score_rows import fit_score, make_inputs

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.evaluation.detection import auroc
from flowgmm_cli.model import Model
from flowgmm_cli.recipe.schema import STANDARD_SCORES
from flowgmm_cli.scores.specs import SPECS

Draw = Callable[..., ScoreInputs]
# `unknown` is constant under a model without unknown kinds, see test_posterior.py
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
def test_rows_out_of_all_bounds_are_far_out(name: str, draw: Draw, gaussian: Model) -> None:
    if name in DOUBT | DIRECTION:
        pytest.skip("does not see distances")
    score = fit_score(name, draw(300), draw(200, seed=1), gaussian)
    x = torch.tensor([[1e30] * 4, [-3e38] * 4, [1e6] * 4])
    assert score(make_inputs(gaussian, x, x.reshape(-1, 2, 2))).min() > score(draw(500, seed=2)).max()

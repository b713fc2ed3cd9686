"""Scores of the labelled rows alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from score_rows import fit_score
from sklearn.linear_model import LogisticRegression

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores import labelled

Draw = Callable[..., ScoreInputs]


def with_labels(rows: ScoreInputs, classes: int = 3) -> ScoreInputs:
    """Return rows with 60 labelled rows around means of their own."""
    labels = torch.arange(60) % classes
    x = 4 * torch.eye(4)[labels] + torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    return replace(rows, labelled=(x, 2 * labels))  # class numbers may have gaps


@pytest.mark.parametrize("classes", [2, 3])
def test_the_posterior_is_that_of_logistic_regression(draw: Draw, classes: int) -> None:
    train, rows = with_labels(draw(50), classes), draw(40, seed=1)
    assert train.labelled is not None
    x, labels = (part.numpy() for part in train.labelled)
    p = LogisticRegression(max_iter=1000).fit(x, labels).predict_proba(rows.x.numpy()).max(1)
    score = fit_score("label_posterior", train)(rows)
    np.testing.assert_allclose(score, np.log((1 - p) / p), rtol=1e-2, atol=1e-3)


def test_of_very_many_classes_the_posterior_is_that_of_gaussians(
    draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, rows = with_labels(draw(50)), draw(40, seed=1)
    regression = fit_score("label_posterior", train)(rows)
    monkeypatch.setattr(labelled, "_MAX_PRODUCTS", 0)
    gaussians = fit_score("label_posterior", train)(rows)
    assert np.corrcoef(np.argsort(np.argsort(regression)), np.argsort(np.argsort(gaussians)))[0, 1] > 0.7


def test_distances_are_those_to_the_nearest_class_mean(draw: Draw) -> None:
    train, rows = with_labels(draw(50)), draw(40, seed=1)
    assert train.labelled is not None
    x, labels = (part.double().numpy() for part in train.labelled)
    means = np.stack([x[labels == k].mean(0) for k in np.unique(labels)])
    own = rows.x.double().numpy()
    distance = np.linalg.norm(own[:, None] - means, axis=2).min(1)
    np.testing.assert_allclose(fit_score("label_distance", train)(rows), distance)
    # only the direction counts
    stretched = replace(rows, x=3 * rows.x)
    angle = fit_score("label_angle", train)
    np.testing.assert_allclose(angle(stretched), angle(rows), atol=1e-6)

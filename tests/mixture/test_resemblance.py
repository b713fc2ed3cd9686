from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.metrics import cohen_kappa_score

from flowgmm_cli.mixture.resemblance import _halve, _kappa, rate_resemblance
from flowgmm_cli.mixture.unknown import label_mass, neighbour_graph


def rate(far: float, seed: int = 0) -> float:
    """Rate rows of three classes, which lie `far` from the others of their class, or of none for infinity."""
    rng = np.random.default_rng(seed)
    kinds = np.concatenate([np.repeat([0, 1, 2], 20), np.repeat([0, 1, 2], 150)])
    x = 6 * np.eye(8)[kinds] + rng.standard_normal((len(kinds), 8))
    is_far = (np.arange(len(x)) >= 60) & (rng.random(len(x)) < 0.3)
    if np.isinf(far):
        x[is_far] = 6 * np.eye(8)[5] + rng.standard_normal((is_far.sum(), 8))
    else:
        x[is_far, 7] += far
    rows, labels = x.astype(np.float32), kinds[:60]
    graph = neighbour_graph(rows)
    mass = label_mass(graph, labels, np.arange(60) % 5)
    rank = np.where(is_far, 0.0, 1.0)
    return rate_resemblance(rows, labels, mass.sum(2).argmax(1), graph, rank, (0.2, 0.3, 0.4))


def test_rows_at_random_resemble_the_classes_and_others_do_not() -> None:
    assert rate(0.0) > 0.95
    assert 0.5 < rate(4.0) <= 1
    assert rate(np.inf) < 0.1


@pytest.mark.parametrize("classes", [2, 5])
def test_the_agreement_is_that_of_cohen(classes: int) -> None:
    first, second = np.random.default_rng(0).integers(classes, size=(2, 100))
    second[:40] = first[:40]
    assert _kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_halves_lie_along_the_first_principal_component() -> None:
    x = np.random.default_rng(0).normal(size=(101, 4), scale=[1, 5, 1, 2]).astype(np.float32)
    mask = np.arange(101) < 90
    first, second = _halve(x, mask)
    place = PCA(1).fit_transform(x[mask])[:, 0]
    assert (first[mask] == (place > np.median(place))).mean() in (0, 1)
    assert (first | second).tolist() == mask.tolist()
    assert abs(int(first.sum()) - int(second.sum())) <= 1

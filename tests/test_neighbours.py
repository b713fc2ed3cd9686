from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from flowgmm_cli.neighbours import affinity, normalise_graph, normalise_rows, propagate_labels


def graph(n: int = 60, k: int = 5) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((n, 3)).astype(np.float32)
    return NearestNeighbors(n_neighbors=k).fit(x).kneighbors()


def test_affinities_decrease_with_the_distance_in_units_of_both_local_scales() -> None:
    distance, index = graph()
    sigma = distance[:, -1]
    weights = affinity(distance, index, sigma).toarray()
    for i in range(3):
        for d, j in zip(distance[i], index[i], strict=True):
            assert weights[i, j] == pytest.approx(np.exp(-(d**2) / (sigma[i] * sigma[j])), rel=1e-4)
    assert (weights > 0).sum() == index.size


def test_the_normalised_graph_is_symmetric_with_largest_eigenvalue_one() -> None:
    distance, index = graph()
    dense = normalise_graph(affinity(distance, index, distance[:, -1])).toarray()
    np.testing.assert_allclose(dense, dense.T, rtol=1e-5)
    assert np.linalg.eigvalsh(dense.astype(float)).max() == pytest.approx(1, abs=1e-4)


def test_spreading_converges_to_the_closed_form() -> None:
    distance, index = graph()
    matrix = normalise_graph(affinity(distance, index, distance[:, -1]))
    start = np.zeros((60, 3, 2), dtype=np.float32)  # three sets of labels at once
    start[0, :, 0] = start[[1, 2, 3], [0, 1, 2], 1] = 1
    alpha = 0.8
    inverse = (1 - alpha) * np.linalg.inv(np.eye(60) - alpha * matrix.toarray().astype(float))
    mass = propagate_labels(matrix, start, alpha=alpha, iterations=500)
    for index in range(3):
        np.testing.assert_allclose(mass[:, index], inverse @ start[:, index], atol=1e-3)


def test_rows_sum_to_one_and_zero_rows_are_uniform() -> None:
    mass = np.array([[3, 1], [0, 0]], dtype=np.float32)
    assert normalise_rows(mass).tolist() == [[0.75, 0.25], [0.5, 0.5]]

"""`latent_knn` and `input_knn`, against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from score_rows import Identity, fit_score, make_inputs
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler, normalize

from flowgmm_cli.api import Latents, ScoreInputs
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture


def rows_of_size(n: int, features: int, *, seed: int, offset: float = 0.0) -> torch.Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed)) * 3 + offset


def reference(train: np.ndarray, rows: np.ndarray, k: int, distance: str) -> np.ndarray:
    result, _ = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(train).kneighbors(rows)
    return result.mean(axis=1) if distance == "mean" else result[:, -1]


def distances(train: torch.Tensor, rows: torch.Tensor, **config: Any) -> np.ndarray:
    model = FlowMixture(Identity(), GaussianMixture(torch.zeros(1, train.shape[1])))
    return fit_score("input_knn", make_inputs(model, train), **config)(make_inputs(model, rows))


@pytest.mark.parametrize("distance", ["mean", "kth"])
@pytest.mark.parametrize(("count", "features", "k"), [(40, 3, 1), (700, 6, 5), (700, 20, 30), (5, 2, 5)])
def test_distances_are_those_of_scikit_learn(distance: str, count: int, features: int, k: int) -> None:
    train, rows = rows_of_size(count, features, seed=0), rows_of_size(600, features, seed=1)
    expected = reference(train.double().numpy(), rows.double().numpy(), k, distance)
    np.testing.assert_allclose(distances(train, rows, k=k, distance=distance), expected, rtol=1e-5)


def test_a_common_offset_costs_no_digits() -> None:
    train, rows = (rows_of_size(200, 4, seed=seed, offset=10_000.0) for seed in (0, 1))
    expected = reference(train.double().numpy(), rows.double().numpy(), 3, "mean")
    np.testing.assert_allclose(distances(train, rows, k=3), expected, rtol=1e-3)


def test_features_can_be_standardised_and_constant_features_stay() -> None:
    train, rows = rows_of_size(100, 3, seed=0), rows_of_size(20, 3, seed=1)
    train[:, 1] *= 100
    train[:, 2] = rows[:, 2] = 7.0
    scaler = StandardScaler().fit(train.double().numpy())
    expected = reference(*(scaler.transform(tensor.double().numpy()) for tensor in (train, rows)), 2, "mean")
    np.testing.assert_allclose(distances(train, rows, k=2, scale="standardise"), expected, rtol=1e-4)


def test_of_rows_of_unit_length_only_directions_count() -> None:
    train, rows = rows_of_size(100, 3, seed=0), rows_of_size(20, 3, seed=1)
    expected = reference(*(normalize(tensor.double().numpy()) for tensor in (train, rows)), 2, "mean")
    np.testing.assert_allclose(distances(train, rows, k=2, scale="unit"), expected, rtol=1e-4)
    np.testing.assert_allclose(distances(train, 7 * rows, k=2, scale="unit"), expected, rtol=1e-4)


@pytest.mark.parametrize(("shape", "count"), [((200, 3), 50), ((300, 20_000), 200)])
def test_the_number_of_stored_rows_and_memory_are_bounded(shape: tuple[int, int], count: int) -> None:
    x = torch.zeros(shape)
    rows = ScoreInputs(x, Latents(x, x[:, 0], x[:, :1]), x[:, :1], x[:, 0])
    stored = fit_score("input_knn", rows, **({"rows": 50} if count == 50 else {})).state()[1]["rows"]
    assert stored.shape == (count, shape[1])
    assert stored.dtype == np.float32


def test_infinite_training_rows_are_ignored() -> None:
    train, rows = rows_of_size(30, 2, seed=0), rows_of_size(10, 2, seed=1)
    broken = torch.cat([train, torch.tensor([[np.nan, 0.0], [np.inf, 1.0]])])
    np.testing.assert_array_equal(distances(broken, rows, k=2), distances(train, rows, k=2))


def test_the_scores_read_latents_and_rows() -> None:
    model = FlowMixture(Identity(10.0), GaussianMixture(torch.zeros(1, 3)))
    train, rows = (make_inputs(model, rows_of_size(60, 3, seed=seed)) for seed in (0, 1))
    at_input, latent = (fit_score(f"{name}_knn", train)(rows) for name in ("input", "latent"))
    np.testing.assert_allclose(latent, 10 * at_input, rtol=1e-5)

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.mixture.clusters import component_responsibilities, fit_kmeans, match_clusters
from flowgmm_cli.mixture.init import means_from_responsibilities


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_single_component_has_the_responsibilities_of_its_class() -> None:
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    shares = torch.rand(50, 2, generator=seeded(1), dtype=torch.float64)
    split = component_responsibilities(x, shares, 1, seeded())
    assert torch.equal(split, shares)
    start = means_from_responsibilities(x, split, classes=2, scale=1.0, generator=seeded())
    expected = torch.stack([(shares[:, [k]] * x).sum(0) / shares[:, k].sum() for k in range(2)])
    torch.testing.assert_close(start.means.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(start.component_weights, shares.sum(0)[:, None].float() + 1)


def test_components_divide_only_the_rows_of_their_class() -> None:
    x = torch.randn(90, 2, generator=seeded())
    shares = torch.softmax(3 * torch.randn(90, 3, generator=seeded(1)), dim=1).double()
    split = component_responsibilities(x, shares, 2, seeded()).reshape(90, 3, 2)
    assert ((split > 0).sum(2) <= 1).all()
    own = shares.argmax(1)
    for k in range(3):
        torch.testing.assert_close(split[own == k, k].sum(1), shares[own == k, k])
        assert not split[own != k, k].any()


def test_a_class_that_is_nowhere_likeliest_has_its_best_row() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.6, 0.4], [1.0, 0.0]])
    split = component_responsibilities(torch.randn(3, 2, generator=seeded()), shares, 2, seeded())
    assert split.reshape(3, 2, 2)[:, 1].sum(1).gt(0).tolist() == [False, True, False]


def test_components_without_rows_start_near_their_class_mean_and_apart() -> None:
    x = torch.tensor([[1.0, 2.0], [-5.0, 0.0], [-7.0, 0.0]])
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    split = component_responsibilities(x, shares, 3, seeded())
    start = means_from_responsibilities(x, split, classes=2, scale=2.0, generator=seeded())
    assert start.means.isfinite().all()
    assert torch.pdist(start.means).min() > 1e-3
    away = (start.means[:3] - x[0]).norm(dim=1).sort().values
    torch.testing.assert_close(away, torch.tensor([0.0, 0.2, 0.2]), atol=1e-6, rtol=0)
    away = (start.means[3:] - torch.tensor([-6.0, 0.0])).norm(dim=1).sort().values
    torch.testing.assert_close(away, torch.tensor([0.2, 1.0, 1.0]), atol=1e-6, rtol=0)
    assert start.component_weights.min() == 1


def test_kmeans_of_very_many_rows_is_fitted_to_a_reproducible_sample() -> None:
    x = torch.randn(6000, 2, generator=seeded()).numpy()
    x[::2] += 20
    model, again = (fit_kmeans(x, 2, seeded(), operations=1.0) for _ in range(2))
    assert len(model.labels_) == 2000
    assert (model.cluster_centers_ == again.cluster_centers_).all()
    assert sorted(model.cluster_centers_.mean(1).round().tolist()) == [0, 20]


@settings(max_examples=50, deadline=None)
@given(classes=st.integers(1, 3), components=st.integers(1, 2), seed=st.integers(0, 999))
def test_no_other_assignment_of_clusters_is_better(classes: int, components: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = classes * components
    counts = rng.integers(0, 4, (count, classes))
    distances = rng.random((count, classes))
    owner = np.repeat(np.arange(classes), components)

    def quality(order: tuple[int, ...]) -> tuple[int, float]:
        index = list(order)
        return int(counts[index, owner].sum()), round(-float(distances[index, owner].sum()), 9)

    order = tuple(int(cluster) for cluster in match_clusters(counts, distances, components=components))
    assert sorted(order) == list(range(count))
    assert quality(order) == max(quality(other) for other in itertools.permutations(range(count)))

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.errors import DataError
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.mixture.starts.clusters import kmeans, match
from flowgmm_cli.mixture.starts.start import StartRows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50, deadline=None)
@given(classes=st.integers(1, 3), components=st.integers(1, 2), seed=st.integers(0, 999))
def test_no_other_matching_has_more_rows_or_as_many_nearer(classes: int, components: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = classes * components
    counts = rng.integers(0, 4, (count, classes))
    distances = rng.random((count, classes))
    owner = np.repeat(np.arange(classes), components)

    def quality(order: tuple[int, ...]) -> tuple[int, float]:
        index = list(order)
        return int(counts[index, owner].sum()), round(-float(distances[index, owner].sum()), 9)

    found = tuple(int(one) for one in match(counts, distances, components=components))
    assert sorted(found) == list(range(count))
    assert quality(found) == max(quality(order) for order in itertools.permutations(range(count)))


def test_clusters_follow_the_labelled_rows_and_unclear_ones_the_distance() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    x = centres.repeat(50, 1) + torch.randn(200, 2, generator=seeded())
    labels = torch.tensor([2, 0, 3, 1])  # the order of the centres in terms of classes
    rows = StartRows(x[:4], labels, x[4:], 4, 2)
    start = kmeans(GMMConfig(means="kmeans"), rows, seeded())
    torch.testing.assert_close(start.means, centres[[1, 3, 0, 2]], atol=0.7, rtol=0)
    # two classes whose only labelled rows lie in one cluster: the free one goes to the nearer class
    x = torch.cat([torch.randn(50, 2, generator=seeded()), 10 + torch.randn(50, 2, generator=seeded(1))])
    near, far = torch.tensor([[0.5, 0.5]]), torch.tensor([[-0.5, -0.5]])
    rows = StartRows(torch.cat([far, near]), torch.tensor([0, 1]), x, 2, 2)
    start = kmeans(GMMConfig(means="kmeans"), rows, seeded())
    assert start.means[1].mean() > 9
    assert start.means[0].mean() < 1


def test_fewer_rows_than_clusters_are_an_error() -> None:
    rows = StartRows(torch.randn(2, 2), torch.tensor([0, 1]), torch.empty(0, 2), 2, 2)
    with pytest.raises(DataError, match=r"looks for 4 clusters .* among 2 training rows"):
        kmeans(GMMConfig(means="kmeans", components=2), rows, seeded())


def test_rows_that_are_all_alike_give_finite_means() -> None:
    rows = StartRows(torch.ones(4, 2), torch.tensor([0, 1, 0, 1]), torch.ones(20, 2), 2, 2)
    start = kmeans(GMMConfig(means="kmeans"), rows, seeded())
    torch.testing.assert_close(start.means, torch.ones(2, 2))

from __future__ import annotations

import pytest
import torch

from flowgmm_cli.mixture.starts import components
from flowgmm_cli.mixture.starts.components import component_shares, k_means, means_of_shares


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_one_component_gets_the_shares_as_they_are_and_weighted_means() -> None:
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    shares = torch.rand(50, 2, generator=seeded(1), dtype=torch.float64)
    split = component_shares(x, shares, 1, seeded())
    assert torch.equal(split, shares)
    start = means_of_shares(x, split, classes=2, scale=1.0, generator=seeded())
    expected = torch.stack([(shares[:, [k]] * x).sum(0) / shares[:, k].sum() for k in range(2)])
    torch.testing.assert_close(start.means.double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(start.component_weights, shares.sum(0)[:, None].float() + 1)


def test_components_divide_the_rows_of_their_class_and_no_others() -> None:
    x = torch.randn(90, 2, generator=seeded())
    shares = torch.softmax(3 * torch.randn(90, 3, generator=seeded(1)), dim=1).double()
    split = component_shares(x, shares, 2, seeded()).reshape(90, 3, 2)
    assert ((split > 0).sum(2) <= 1).all()
    own = shares.argmax(1)
    for k in range(3):
        torch.testing.assert_close(split[own == k, k].sum(1), shares[own == k, k])
        assert not split[own != k, k].any()


def test_a_class_that_no_row_is_most_likely_of_keeps_its_best_row() -> None:
    shares = torch.tensor([[0.9, 0.1], [0.6, 0.4], [1.0, 0.0]])
    split = component_shares(torch.randn(3, 2, generator=seeded()), shares, 2, seeded()).reshape(3, 2, 2)
    assert split[:, 1].sum(1).gt(0).tolist() == [False, True, False]


def test_components_without_rows_start_beside_their_class_mean_and_apart() -> None:
    x = torch.tensor([[1.0, 2.0], [-5.0, 0.0], [-7.0, 0.0]])
    shares = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    split = component_shares(x, shares, 3, seeded())
    start = means_of_shares(x, split, classes=2, scale=2.0, generator=seeded())
    assert start.means.isfinite().all()
    assert torch.pdist(start.means).min() > 1e-3
    away = (start.means[:3] - x[0]).norm(dim=1).sort().values
    torch.testing.assert_close(away, torch.tensor([0.0, 0.2, 0.2]), atol=1e-6, rtol=0)
    away = (start.means[3:] - torch.tensor([-6.0, 0.0])).norm(dim=1).sort().values
    torch.testing.assert_close(away, torch.tensor([0.2, 1.0, 1.0]), atol=1e-6, rtol=0)
    assert start.component_weights.min() == 1


def test_k_means_of_very_many_rows_looks_at_some_of_them_and_repeats_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x = torch.randn(6000, 2, generator=seeded()).numpy()
    x[::2] += 20
    monkeypatch.setattr(components, "_OPERATIONS", 1.0)
    one, two = k_means(x, 2, seeded()), k_means(x, 2, seeded())
    assert len(one.labels_) == 2000
    assert (one.cluster_centers_ == two.cluster_centers_).all()
    assert sorted(one.cluster_centers_.mean(1).round().tolist()) == [0, 20]

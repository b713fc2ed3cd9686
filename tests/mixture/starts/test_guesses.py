from __future__ import annotations

import pytest
import torch
from sklearn.datasets import make_moons
from sklearn.linear_model import LogisticRegression

from flowgmm_cli.mixture.starts import guesses
from flowgmm_cli.mixture.starts.guesses import from_labels, label_spreading, logistic_regression
from flowgmm_cli.mixture.starts.start import StartRows


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moons(n: int = 400, per_class: int = 3) -> tuple[StartRows, torch.Tensor]:
    """Two moons; the true classes are given in the order of the guess, labelled rows first."""
    features, truth = make_moons(n, noise=0.06, random_state=0)
    x, y = torch.from_numpy(features).float(), torch.from_numpy(truth)
    labelled = torch.cat([(y == k).nonzero().flatten()[:per_class] for k in range(2)])
    other = torch.ones(n, dtype=torch.bool)
    other[labelled] = False
    return StartRows(x[labelled], y[labelled], x[other], 2, 2), torch.cat([y[labelled], y[other]])


def test_the_labels_alone_are_shares_of_their_rows() -> None:
    rows, _ = moons()
    x, shares = from_labels(rows, seeded())
    assert torch.equal(x, rows.labelled)
    assert torch.equal(shares.argmax(1), rows.labels)
    assert torch.equal(shares.sum(1), torch.ones(6, dtype=torch.float64))


def test_logistic_regression_gives_its_probabilities() -> None:
    rows, _ = moons()
    x, shares = logistic_regression(rows, seeded())
    reference = LogisticRegression(max_iter=500).fit(rows.labelled.double().numpy(), rows.labels.numpy())
    expected = torch.from_numpy(reference.predict_proba(rows.unlabelled.double().numpy()))
    assert len(x) == 400
    torch.testing.assert_close(shares[6:], expected)
    assert torch.equal(shares[:6], rows.one_hot)


def test_labels_spread_along_curved_classes() -> None:
    rows, truth = moons()
    x, shares = label_spreading(rows, seeded())
    assert len(x) == len(shares) == 400
    torch.testing.assert_close(shares.sum(1), torch.ones(400, dtype=torch.float64))
    assert (shares.argmax(1) == truth).double().mean() > 0.98
    assert torch.equal(shares[:6], rows.one_hot)


def test_rows_that_no_label_reaches_are_left_out() -> None:
    rows, _ = moons()
    island = 100 + torch.randn(30, 2, generator=seeded())
    rows = StartRows(rows.labelled, rows.labels, torch.cat([rows.unlabelled, island]), 2, 2)
    x, shares = label_spreading(rows, seeded())
    assert len(x) == 400
    assert x.max() < 10
    assert shares.isfinite().all()


def test_rows_that_are_all_alike_and_a_single_row_are_no_trouble() -> None:
    alike = StartRows(torch.ones(2, 3), torch.tensor([0, 1]), torch.ones(50, 3), 2, 3)
    x, shares = label_spreading(alike, seeded())
    assert shares.isfinite().all()
    assert torch.equal(x, torch.ones_like(x))
    single = StartRows(torch.ones(1, 3), torch.tensor([0]), torch.empty(0, 3), 1, 3)
    assert label_spreading(single, seeded())[1].tolist() == [[1.0]]


def test_of_very_many_rows_a_sample_with_every_label_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guesses, "GRAPH_COST", 2 * 100.0**2)
    rows, _ = moons()
    x, shares = label_spreading(rows, seeded())
    again, other = label_spreading(rows, seeded())[0], label_spreading(rows, seeded(1))[0]
    assert 80 < len(x) <= 100
    assert torch.equal(x[:6], rows.labelled)
    assert torch.equal(x, again)
    assert x.shape != other.shape or not torch.equal(x, other)
    assert torch.equal(shares[:6], rows.one_hot)


@pytest.mark.slow
def test_forty_thousand_rows_take_seconds() -> None:
    import time

    x = torch.randn(40_000, 128, generator=seeded())
    rows = StartRows(x[:40], torch.arange(40) % 4, x[40:], 4, 128)
    start = time.process_time()
    label_spreading(rows, seeded())
    assert time.process_time() - start < 15

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from flowgmm_cli.mixture import unknown as module
from flowgmm_cli.mixture.unknown import UnknownKinds, assign_folds, find_unknown, label_mass, unknown_share
from flowgmm_cli.neighbours import affinity

CENTRES = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0], [8.0, 8.0]])
LABELS = 30


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(counts: list[int], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows about the first centres, and the centre of each."""
    kinds = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return CENTRES[kinds] + torch.randn(len(kinds), 2, generator=generator(seed)), kinds


def find(hidden: int, seed: int = 0, count: int | None = None) -> tuple[UnknownKinds | None, torch.Tensor]:
    """Search three named classes and `hidden` rows of a fourth kind; returns the kinds of the rows, too."""
    labelled, labels = rows([LABELS // 3] * 3, seed=seed + 100)
    x, kinds = rows([200, 200, 200, hidden], seed=seed)
    found = find_unknown(labelled, labels, x, classes=3, count=count, generator=generator(seed))
    return found, kinds


@pytest.mark.parametrize(("hidden", "share"), [(100, 1 / 7), (200, 1 / 4), (600, 1 / 2)])
def test_a_kind_without_labels_is_found_with_its_share(hidden: int, share: float) -> None:
    found, kinds = find(hidden)
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.05)
    assert 0 < found.low < found.share < found.high
    assert set(kinds[found.examples].tolist()) == {3}
    assert found.count == 1
    assert not found.components.any()


def test_examples_are_as_many_as_a_class_of_that_size_would_have_labels() -> None:
    for hidden, expected in ((100, LABELS // 3), (600, LABELS)):
        found, _ = find(hidden)
        assert found is not None
        assert len(found.examples) == pytest.approx(expected, abs=3)


def test_nothing_is_found_where_every_row_is_of_a_class() -> None:
    assert sum(find(0, seed)[0] is not None for seed in range(20)) <= 1


def test_a_number_of_components_is_kept_without_any_doubt() -> None:
    found, _ = find(0, count=2)
    assert found is not None
    assert found.count == 2
    assert set(found.components.tolist()) == {0, 1}


def test_the_same_seed_finds_the_same_rows() -> None:
    first, second = (find(200)[0] for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(first.examples, second.examples)


def test_too_few_labels_tell_nothing() -> None:
    labelled, labels = rows([6, 6, 6])
    x, _ = rows([200, 200, 200, 200])
    assert find_unknown(labelled, labels, x, classes=3, count=1, generator=generator()) is None
    assert (
        find_unknown(x, labels.repeat(50)[: len(x)], x[:5], classes=3, count=1, generator=generator()) is None
    )


def test_of_very_many_rows_a_sample_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRAPH_OPERATIONS", 2 * 400.0**2)
    found, kinds = find(600)
    assert found is not None
    assert found.share == pytest.approx(0.5, abs=0.1)
    assert (kinds[found.examples] == 3).float().mean() > 0.9


def test_the_mass_is_that_of_random_walks_from_the_labels() -> None:
    x = rows([20, 20])[0].numpy()
    folds = np.arange(10) % module.FOLDS
    own, mass = label_mass(x, folds)
    distance, index = NearestNeighbors(n_neighbors=module.NEIGHBOURS).fit(x).kneighbors()
    graph = affinity(distance, index, distance[:, -1]).toarray().astype(float)
    graph = np.maximum(graph, graph.T)
    walk = graph / graph.sum(1, keepdims=True)
    start = np.zeros((len(x), len(folds)))
    start[np.arange(10), np.arange(10)] = len(x)
    spread = start
    for _ in range(module.ITERATIONS):
        spread = module.ALPHA * walk @ spread + (1 - module.ALPHA) * start
    np.testing.assert_allclose(mass, spread[10:].sum(1), rtol=1e-3)
    others = folds[:, None] != folds[None]
    np.testing.assert_allclose(own, (spread[:10] * others).sum(1) * 10 / 8, rtol=1e-3)


def test_the_share_compares_labelled_and_unlabelled_rows_below_a_mass() -> None:
    own = np.linspace(1, 2, 1000)
    share, low, high, certain = unknown_share(own, np.concatenate([np.linspace(1, 2, 700), np.zeros(300)]))
    assert share == pytest.approx(0.3, abs=0.01)
    assert 0 < certain < low < share < high
    share, _, _, certain = unknown_share(own, np.linspace(1, 2, 700))
    assert share == pytest.approx(0, abs=0.01)
    assert certain < 0


@pytest.mark.parametrize("labels", [30, 200])
def test_the_interval_holds_and_nothing_is_found_by_chance(labels: int) -> None:
    rng = np.random.default_rng(0)
    own = [rng.normal(size=labels) for _ in range(300)]
    mass = np.concatenate([rng.normal(size=7000), rng.normal(-6, size=3000)])
    intervals = [unknown_share(draw, mass) for draw in own]
    assert np.mean([low < 0.3 < high for _, low, high, _ in intervals]) > 0.85
    assert np.mean([unknown_share(draw, rng.normal(size=7000))[3] > 0 for draw in own]) < 0.1


def test_folds_hold_equal_shares_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], 10)
    folds = assign_folds(labels, generator())
    assert np.bincount(folds).tolist() == [6] * 5
    assert all(np.bincount(folds[labels == k], minlength=5).tolist() == [2] * 5 for k in range(3))


def test_the_result_is_sent_as_text() -> None:
    found, _ = find(200)
    assert found is not None
    copy = UnknownKinds.from_json(found.to_json())
    assert copy.describe() == found.describe()
    assert torch.equal(copy.examples, found.examples)
    assert torch.equal(copy.components, found.components)

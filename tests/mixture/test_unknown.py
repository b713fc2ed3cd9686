from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from flowgmm_cli.files import load_strictly
from flowgmm_cli.mixture import unknown as module
from flowgmm_cli.mixture.unknown import (
    UnknownKinds,
    assign_folds,
    class_ratios,
    estimate_share,
    find_unknown,
    label_mass,
    neighbour_graph,
    scarcity_ranks,
)
from flowgmm_cli.mixture.unknown_head import UnknownHead, fit_head
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
    """Search three named classes and `hidden` rows of a fourth kind; returns the kinds of all rows, too."""
    labelled, labels = rows([LABELS // 3] * 3, seed=seed + 100)
    x, kinds = rows([200, 200, 200, hidden], seed=seed)
    return search(labelled, labels, x, count=count, seed=seed), torch.cat([labels, kinds])


def search(
    labelled: torch.Tensor, labels: torch.Tensor, x: torch.Tensor, *, count: int | None = None, seed: int = 0
) -> UnknownKinds | None:
    visible = torch.cat([labels, torch.full((len(x),), -1)])
    rows = torch.cat([labelled, x])
    return find_unknown(rows, visible, classes=3, count=count, generator=generator(seed))


@pytest.mark.parametrize(("hidden", "share"), [(200, 1 / 4), (600, 1 / 2)])
def test_a_kind_without_labels_is_found_with_its_share(hidden: int, share: float) -> None:
    found, kinds = find(hidden)
    assert found is not None
    assert found.share == pytest.approx(share, abs=0.1)
    assert found.low < found.share < found.high
    assert (kinds[found.examples] == 3).float().mean() > 0.7
    assert found.count == 1
    assert not found.components.any()


def test_examples_are_as_many_as_a_class_of_that_size_would_have_labels() -> None:
    for hidden, expected in ((200, LABELS // 3), (600, LABELS)):
        found, _ = find(hidden)
        assert found is not None
        assert len(found.examples) == pytest.approx(expected, abs=10)


def test_nothing_is_found_where_every_row_is_of_a_class() -> None:
    assert sum(find(0, seed)[0] is not None for seed in range(20)) <= 3


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


@pytest.mark.parametrize("seed", range(4))
def test_parts_of_the_classes_far_from_all_labels_are_no_unknown_kind(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = torch.arange(3).repeat_interleave(200)
    x = 3 * torch.eye(8)[kinds] + torch.randn(600, 8, generator=generator(seed))
    x[:, 7] *= 4  # the labels are those of the lowest rows
    lowest = torch.cat([200 * k + x[200 * k : 200 * (k + 1), 7].argsort()[:15] for k in range(3)])
    visible = torch.full((600,), -1).scatter(0, lowest, kinds[lowest])
    notes: list[str] = []
    for count, expected in ((None, 0), (1, 1)):  # a number of kinds is kept
        arguments = {"classes": 3, "count": count, "generator": generator(seed), "note": notes.append}
        assert (find_unknown(x, visible, **arguments) is not None) == expected
    (note,) = notes
    monkeypatch.setattr(
        module, "MAX_COLUMNS", module.FOLDS
    )  # as with very many classes: they are not compared
    assert find_unknown(x, visible, classes=3, count=None, generator=generator(seed)) is not None
    monkeypatch.undo()
    assert "far from all labels but resemble the classes" in note
    with_others = torch.cat([x, 3 * torch.eye(8)[5] + torch.randn(200, 8, generator=generator(seed + 9))])
    chosen = torch.cat([200 * k + torch.arange(15) for k in range(3)])
    visible = torch.full((800,), -1).scatter(0, chosen, kinds[chosen])
    assert find_unknown(with_others, visible, classes=3, count=None, generator=generator(seed)) is not None


def test_too_few_labels_tell_nothing() -> None:
    labelled, labels = rows([6, 6, 6])
    x, _ = rows([200, 200, 200, 200])
    assert search(labelled, labels, x, count=1) is None


@pytest.mark.parametrize("unlabelled", [0, 5])
def test_too_few_rows_without_labels_tell_nothing(unlabelled: int) -> None:
    x, kinds = rows([200, 200, 200])
    assert search(x, kinds, x[:unlabelled], count=1) is None


def test_examples_are_no_more_than_the_rows_of_unknown_kinds() -> None:
    labelled, labels = rows([100, 100, 100], seed=1)
    x, kinds = rows([20, 20, 20, 30])
    found = search(labelled, labels, x)
    assert found is not None
    assert found.share == pytest.approx(1 / 3, abs=0.1)
    assert len(found.examples) <= 30
    assert (kinds[found.examples - len(labels)] == 3).float().mean() > 0.9


@pytest.mark.parametrize("labels", [30, 900])
def test_of_very_many_rows_a_sample_is_searched(labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GRAPH_OPERATIONS", 2 * 400.0**2)
    monkeypatch.setattr(module, "REGRESSION_OPERATIONS", 0)
    labelled, classes = rows([labels // 3] * 3, seed=1)
    x, kinds = rows([200, 200, 200, 600])
    found = search(labelled, classes, x)
    assert found is not None
    assert found.share == pytest.approx(0.5, abs=0.15)
    assert (kinds[found.examples - labels] == 3).float().mean() > 0.8


def test_the_mass_is_that_of_random_walks_from_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels = rows([20, 20])[0].numpy(), np.arange(10) // 5
    folds = np.arange(10) % module.FOLDS
    mass = label_mass(neighbour_graph(x), labels, folds)
    distance, index = NearestNeighbors(n_neighbors=module.NEIGHBOURS).fit(x).kneighbors()
    graph = affinity(distance, index, distance[:, -1]).toarray().astype(float)
    graph = np.maximum(graph, graph.T)
    walk = graph / graph.sum(1, keepdims=True)
    start = np.zeros((len(x), 2, module.FOLDS))
    start[np.arange(10), labels, folds] = len(x) / 10
    spread = start
    for _ in range(module.ITERATIONS):
        spread = module.ALPHA * np.tensordot(walk, spread, 1) + (1 - module.ALPHA) * start
    np.testing.assert_allclose(mass, spread, rtol=1e-3, atol=1e-6)
    monkeypatch.setattr(module, "MAX_COLUMNS", module.FOLDS)
    total = label_mass(neighbour_graph(x), labels, folds)
    np.testing.assert_allclose(total, spread.sum(1, keepdims=True), rtol=1e-3, atol=1e-6)


def test_a_labelled_row_is_ranked_by_the_labels_of_other_folds() -> None:
    mass = np.zeros((4, 1, module.FOLDS), dtype=np.float32)
    mass[0, 0, 0] = 9  # its own fold
    mass[1, 0, 0] = 9
    mass[2, 0] = 1
    assert scarcity_ranks(mass, np.array([0, 1])).tolist() == [0.5, 1.0]


def test_classes_that_are_rarer_among_labels_count_for_more() -> None:
    x, labels = rows([100, 300, 20, 20])
    x, labels = torch.cat([x[-40:], x[:-40]]).numpy(), torch.cat([labels[-40:] - 2, labels[:-40]]).numpy()
    x[:40] = CENTRES[labels[:40]].numpy() + x[:40] - CENTRES[labels[:40] + 2].numpy()
    np.testing.assert_allclose(class_ratios(x, labels[:40], 2), [0.5, 1.5], atol=0.1)
    assert class_ratios(x, np.ones(40, dtype=np.int64), 1).tolist() == [1]


def ranks_among(own: np.ndarray, pile: np.ndarray) -> np.ndarray:
    """Share of the pile with at least the score of each labelled row."""
    return 1 - np.searchsorted(np.sort(pile), own, side="left") / len(pile)


def test_the_share_compares_ranks_of_labelled_rows_with_all() -> None:
    own = np.linspace(1, 2, 1000)
    pile = np.linspace(1, 2, 700)
    mixed = estimate_share(ranks_among(own, np.concatenate([pile, np.full(300, 3)])), np.ones(1000))
    assert mixed.share == pytest.approx(0.3, abs=0.01)
    assert 0 < mixed.low < mixed.share < mixed.high
    assert mixed.p == 0
    clean = estimate_share(ranks_among(own, pile), np.ones(1000))
    assert clean.share == pytest.approx(0, abs=0.01)
    assert clean.p > 0.3


@pytest.mark.parametrize("weighted", [False, True])
def test_the_interval_holds_and_chance_is_known(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 1.5, 100) if weighted else np.ones(100)
    pile = rng.normal(size=7000)
    mixed = np.concatenate([pile, rng.normal(6, size=3000)])
    draws = [rng.normal(size=100) for _ in range(60)]
    intervals = [estimate_share(ranks_among(draw, mixed), weights) for draw in draws]
    assert np.mean([estimate.low < 0.3 < estimate.high for estimate in intervals]) > 0.8
    by_chance = [estimate_share(ranks_among(draw, pile), weights).p < 0.1 for draw in draws]
    assert 0.02 < np.mean(by_chance) < 0.2


def test_folds_hold_equal_shares_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], 10)
    folds = assign_folds(labels, generator())
    assert np.bincount(folds).tolist() == [6] * 5
    assert all(np.bincount(folds[labels == k], minlength=5).tolist() == [2] * 5 for k in range(3))


def test_the_result_is_sent_as_text() -> None:
    found, _ = find(200)
    assert found is not None
    copy = UnknownKinds.from_json(found.to_json())
    assert copy.to_dict() == found.to_dict()
    assert torch.equal(copy.examples, found.examples)
    assert torch.equal(copy.components, found.components)


def test_the_head_knows_rows_of_the_unknown_kind_and_their_share() -> None:
    found, kinds = find(200)
    assert found is not None
    labelled, _ = rows([LABELS // 3] * 3, seed=100)
    x = torch.cat([labelled, rows([200, 200, 200, 200])[0]])
    visible = torch.where(torch.arange(len(x)) < LABELS, kinds, -1)
    head = fit_head(x, visible, found, classes=3, generator=generator())
    p = head(x).sigmoid()
    assert found.low <= float((p[LABELS:] > 0.5).float().mean()) <= found.high
    fewer = replace(found, share=0.1, low=0.05, high=0.15)
    p_fewer = fit_head(x, visible, fewer, classes=3, generator=generator())(x[LABELS:]).sigmoid()
    assert float((p_fewer > 0.5).float().mean()) == pytest.approx(0.1, abs=2e-3)
    assert roc_auc_score(kinds == 3, p) > 0.98
    with_one_class = fit_head(x, torch.where(visible == 1, 1, -1), found, classes=3, generator=generator())
    assert roc_auc_score(kinds[kinds != 2] == 3, with_one_class(x)[kinds != 2]) > 0.5
    copy = UnknownHead(2, classes=3)
    load_strictly(copy, head.state_dict())
    assert torch.equal(copy(x), head(x))

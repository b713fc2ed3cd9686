"""Rows are assigned to splits by their indices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large import split as split_module
from flowgmm_cli.data.large.labels import TableLabels
from flowgmm_cli.data.large.split import assign_splits


def draw(codes, labels, split, *, marked=None, counts=None, **options):
    classes = TableLabels(("a", "b", "c"), np.array(codes, dtype=np.int8), marked)
    options = {"has_test": False, "has_val": False, **options}
    counts = [] if counts is None else counts
    return assign_splits(classes, labels, split, max_rows=10_000, require_memory=counts.append, **options)


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(st.integers(4, 300), st.integers(4, 60), st.integers(0, 300)),
    test=st.sampled_from([0.0, 0.2, 0.9]),
    val=st.sampled_from([0.0, 0.05, 0.9]),
    val_labels=st.booleans(),
    stratify=st.booleans(),
    per_class=st.sampled_from([None, 1]),
    candidates=st.sampled_from([30, 10_000]),
    seed=st.integers(0, 3),
)
def test_splits_are_disjoint_bounded_and_reproducible(
    sizes, test, val, val_labels, stratify, per_class, candidates, seed
):
    codes = np.random.default_rng(seed).permutation(np.repeat([0, 1, -1], sizes))
    labels = LabelsConfig(per_class=per_class, seed=seed)
    split = SplitConfig(test=test, val=val, val_labels=val_labels, stratify=stratify, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_module, "_MAX_CANDIDATES", candidates)
        patch.setattr(split_module, "MAX_HELD_OUT_ROWS", 100)
        patch.setattr(split_module, "MAX_SAMPLE_ROWS", 50)
        index, again = draw(codes, labels, split), draw(codes, labels, split)
    kinds = (index.labelled, index.test, index.val)
    together = np.concatenate(kinds)
    assert len(np.unique(together)) == len(together)
    assert all((np.diff(kind) > 0).all() for kind in (*kinds, index.sample))
    assert not np.isin(index.sample, np.concatenate([index.test, index.val])).any()
    assert max(len(index.test), len(index.val)) <= 100
    assert len(index.sample) <= 50
    assert (codes[index.test] >= 0).all()
    assert set(codes[index.labelled]) == {0, 1}
    if per_class == 1:
        assert len(index.labelled) == 2
    if val_labels:
        assert (codes[index.val] >= 0).all()
    for name in ("labelled", "test", "val", "sample"):
        assert (getattr(index, name) == getattr(again, name)).all()


def test_test_rows_have_the_class_proportions_of_the_table(monkeypatch):
    monkeypatch.setattr(split_module, "_MAX_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1], [50_000, 1000]))
    index = draw(codes, LabelsConfig(count=100), SplitConfig(test=0.01, val=0.0, stratify=False))
    assert np.bincount(codes[index.test]).tolist() == [500, 10]
    assert np.bincount(codes[index.labelled]).tolist() == [50, 50]


def test_a_fraction_refers_to_all_rows_and_unbalanced_draws_keep_proportions(monkeypatch):
    monkeypatch.setattr(split_module, "_MAX_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, -1], [45_000, 5000, 50_000]))
    budget = LabelsConfig(fraction=0.001, balanced=False)
    index = draw(codes, budget, SplitConfig(test=0.0, val=0.0))
    assert np.bincount(codes[index.labelled]).tolist() == [90, 10]


def test_marked_rows_are_neither_tested_nor_held_out():
    codes = np.tile([0, 1], 300)
    marked = np.arange(600) % 10 < 2
    split = SplitConfig(test=0.2, val=0.2, val_labels=True)
    index = draw(codes, LabelsConfig(column="mark"), split, marked=marked)
    assert index.labelled.tolist() == np.flatnonzero(marked).tolist()
    assert (len(index.test), len(index.val)) == (120, 96)


def test_the_memory_of_all_labels_is_checked_before_a_subset_is_drawn():
    counts: list[int] = []
    draw(np.tile([0, 1, -1], 100), LabelsConfig(), SplitConfig(test=0.1, val=0), counts=counts)
    assert counts == [180, 180]
    draw(np.tile([0, 1, -1], 100), LabelsConfig(count=8), SplitConfig(test=0.1, val=0), counts=counts)
    assert counts[2:] == [8]


def test_splits_with_their_own_files_are_not_drawn():
    index = draw(np.tile([0, 1, -1], 100), LabelsConfig(count=8), SplitConfig(), has_test=True, has_val=True)
    assert len(index.test) == len(index.val) == 0
    assert index.notes == ()

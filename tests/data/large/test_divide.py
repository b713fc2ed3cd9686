"""Rows are held out and labelled by their numbers alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data.large import divide
from flowgmm_cli.data.large.classes import Classes
from flowgmm_cli.data.large.divide import find_places


def places(codes, labels, split, *, most=10_000, marked=None, told=None, **given):
    classes = Classes(("a", "b", "c"), np.array(codes, dtype=np.int8), marked)
    settings = {"has_test": False, "has_val": False, **given}
    counts = [] if told is None else told
    return find_places(classes, labels, split, most=most, require_room=counts.append, **settings)


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
def test_they_are_disjoint_bounded_and_reproducible(
    sizes, test, val, val_labels, stratify, per_class, candidates, seed
):
    codes = np.random.default_rng(seed).permutation(np.repeat([0, 1, -1], sizes))
    labels = LabelsConfig(per_class=per_class, seed=seed)
    split = SplitConfig(test=test, val=val, val_labels=val_labels, stratify=stratify, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divide, "_CANDIDATES", candidates)
        patch.setattr(divide, "HELD_OUT", 100)
        patch.setattr(divide, "SAMPLE", 50)
        found, again = places(codes, labels, split), places(codes, labels, split)
    kinds = (found.labelled, found.test, found.val)
    together = np.concatenate(kinds)
    assert len(np.unique(together)) == len(together)
    assert all((np.diff(kind) > 0).all() for kind in (*kinds, found.sample))
    assert not np.isin(found.sample, np.concatenate([found.test, found.val])).any()
    assert max(len(found.test), len(found.val)) <= 100
    assert len(found.sample) <= 50
    assert (codes[found.test] >= 0).all()
    assert set(codes[found.labelled]) == {0, 1}
    if per_class == 1:
        assert len(found.labelled) == 2
    if val_labels:
        assert (codes[found.val] >= 0).all()
    for name in ("labelled", "test", "val", "sample"):
        assert (getattr(found, name) == getattr(again, name)).all()


def test_test_rows_are_in_proportion_to_the_classes_though_candidates_are_not(monkeypatch):
    monkeypatch.setattr(divide, "_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1], [50_000, 1000]))
    found = places(codes, LabelsConfig(count=100), SplitConfig(test=0.01, val=0.0, stratify=False))
    assert np.bincount(codes[found.test]).tolist() == [500, 10]
    assert np.bincount(codes[found.labelled]).tolist() == [50, 50]


def test_a_share_is_one_of_all_rows_and_unbalanced_draws_keep_proportions(monkeypatch):
    monkeypatch.setattr(divide, "_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, -1], [45_000, 5000, 50_000]))
    budget = LabelsConfig(fraction=0.001, balanced=False)
    found = places(codes, budget, SplitConfig(test=0.0, val=0.0))
    assert np.bincount(codes[found.labelled]).tolist() == [90, 10]


def test_marked_rows_are_neither_tested_nor_held_out():
    codes = np.tile([0, 1], 300)
    marked = np.arange(600) % 10 < 2
    split = SplitConfig(test=0.2, val=0.2, val_labels=True)
    found = places(codes, LabelsConfig(column="mark"), split, marked=marked)
    assert found.labelled.tolist() == np.flatnonzero(marked).tolist()
    assert (len(found.test), len(found.val)) == (120, 96)


def test_whether_all_labels_have_room_is_asked_before_they_are_listed():
    told: list[int] = []
    places(np.tile([0, 1, -1], 100), LabelsConfig(), SplitConfig(test=0.1, val=0), told=told)
    assert told == [180, 180]
    places(np.tile([0, 1, -1], 100), LabelsConfig(count=8), SplitConfig(test=0.1, val=0), told=told)
    assert told[2:] == [8]


def test_splits_that_come_from_elsewhere_are_not_made():
    found = places(
        np.tile([0, 1, -1], 100), LabelsConfig(count=8), SplitConfig(), has_test=True, has_val=True
    )
    assert len(found.test) == len(found.val) == 0
    assert found.notes == ()

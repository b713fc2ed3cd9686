"""Rows of a table larger than memory are assigned to splits by their indices."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.api import LabelsConfig, SplitConfig
from flowgmm_cli.data import out_of_core
from flowgmm_cli.data.splits import Part, assign_splits


def draw(codes, labels, split, *, marked=None, most=10_000, given=()):
    codes = np.array(codes, dtype=np.int8)
    table = SimpleNamespace(labels=codes, marked=marked)
    candidates = out_of_core._draw_candidates(table, split, most)
    parts, notes = assign_splits(
        codes,
        None,
        (labels, split),
        ("a", "b", "c"),
        marked=marked,
        given=dict.fromkeys(given, ()),
        candidates=candidates,
    )
    return {part: np.flatnonzero(parts == part) for part in Part}, notes


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.tuples(st.integers(20, 300), st.integers(20, 60), st.integers(0, 300)),
    test=st.sampled_from([0.0, 0.2, 0.9]),
    val=st.sampled_from([0.0, 0.05, 0.9]),
    val_labels=st.booleans(),
    stratify=st.booleans(),
    per_class=st.sampled_from([None, 1]),
    candidates=st.sampled_from([200, 10_000]),
    seed=st.integers(0, 3),
)
def test_splits_are_disjoint_bounded_and_reproducible(
    sizes, test, val, val_labels, stratify, per_class, candidates, seed
):
    codes = np.random.default_rng(seed).permutation(np.repeat([0, 1, -1], sizes))
    labels = LabelsConfig(per_class=per_class, seed=seed)
    split = SplitConfig(test=test, val=val, val_labels=val_labels, stratify=stratify, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(out_of_core, "_MAX_CANDIDATES", candidates)
        (parts, _), (again, _) = (draw(codes, labels, split, most=100) for _ in range(2))
    assert all((parts[part] == again[part]).all() for part in Part)
    assert max(len(parts[part]) for part in (Part.TEST, Part.VAL, Part.VAL_LABELLED)) <= 100
    assert (codes[parts[Part.TEST]] >= 0).all()
    assert set(codes[parts[Part.LABELLED]]) == {0, 1}
    if per_class == 1 and not len(parts[Part.VAL_LABELLED]):
        assert len(parts[Part.LABELLED]) == 2
    if val_labels:
        assert (codes[parts[Part.VAL_LABELLED]] >= 0).all()
        assert not len(parts[Part.VAL])


def test_test_rows_have_the_class_proportions_of_the_table(monkeypatch):
    monkeypatch.setattr(out_of_core, "_MAX_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1], [50_000, 1000]))
    parts, _ = draw(codes, LabelsConfig(count=60), SplitConfig(test=0.2, val=0.0), most=200)
    counts = np.bincount(codes[parts[Part.TEST]])
    assert counts.sum() == 200
    assert 1 <= counts[1] <= 8
    assert np.bincount(codes[parts[Part.LABELLED]]).tolist() == [30, 30]


def test_a_fraction_refers_to_all_rows_and_unbalanced_draws_keep_proportions(monkeypatch):
    monkeypatch.setattr(out_of_core, "_MAX_CANDIDATES", 2000)
    codes = np.random.default_rng(0).permutation(np.repeat([0, 1, -1], [45_000, 5000, 50_000]))
    budget = LabelsConfig(fraction=0.001, balanced=False)
    parts, _ = draw(codes, budget, SplitConfig(test=0.0, val=0.0))
    assert np.bincount(codes[parts[Part.LABELLED]])[1] in range(7, 14)


def test_marked_rows_are_neither_tested_nor_held_out():
    codes = np.tile([0, 1], 300)
    marked = np.arange(600) % 10 < 2
    split = SplitConfig(test=0.2, val=0.2, val_labels=True)
    parts, _ = draw(codes, LabelsConfig(column="mark"), split, marked=marked)
    assert parts[Part.LABELLED].tolist() == np.flatnonzero(marked).tolist()
    assert (len(parts[Part.TEST]), len(parts[Part.VAL_LABELLED])) == (96, 101)


def test_splits_with_their_own_files_are_not_drawn():
    parts, notes = draw(np.tile([0, 1, -1], 100), LabelsConfig(count=8), SplitConfig(), given=("test", "val"))
    assert {part: len(rows) for part, rows in parts.items() if len(rows)} == {1: 292, 2: 8}
    assert notes == []

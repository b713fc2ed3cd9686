"""Rows to label next: typical of groups without labels, doubtful of each class, never near duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from flowgmm_cli.inference.row_choice import choose_rows, doubtful_share, pair_distance
from flowgmm_cli.inference.suggestions import measure_doubt

KINDS = np.repeat(np.arange(6), 50)
BLOBS = (10 * np.eye(6)[KINDS] + np.random.default_rng(0).standard_normal((300, 6))).astype(np.float32)


def test_groups_without_labels_come_first() -> None:
    labels = np.full(300, -1)
    assert sorted(KINDS[[pick.place for pick in choose_rows(BLOBS, labels, 6)]]) == [0, 1, 2, 3, 4, 5]
    labels[[0, 50, 60]] = [0, 1, 1]
    picks = choose_rows(BLOBS, labels, 3)
    assert not {0, 1} & set(KINDS[[pick.place for pick in picks]])
    assert all(pick.labels == 0 and pick.rows > 0 for pick in picks)
    for pick in choose_rows(BLOBS, labels, 6):  # typical rows are those near the middle of their group
        distances = np.linalg.norm(BLOBS - 10 * np.eye(6)[KINDS[pick.place]], axis=1)
        assert distances[pick.place] < np.median(distances[KINDS[pick.place] == KINDS])


def test_no_two_rows_are_near_duplicates() -> None:
    x = np.concatenate([BLOBS, BLOBS, BLOBS[:3] * np.nan])
    picks = choose_rows(x, np.full(603, -1), 60)
    chosen = x[[pick.place for pick in picks]]
    assert len(picks) == 60
    assert pdist(chosen).min() >= pair_distance(x[:600], np.random.default_rng(0)) > 0
    assert len(choose_rows(np.zeros((20, 2)), np.full(20, -1), 5)) == 5  # all pairs are equally near
    assert choose_rows(np.full((2, 2), np.nan), np.full(2, -1), 5) == []
    assert len(choose_rows(BLOBS[:9], np.array([0, *[-1] * 8]), 50)) <= 8


def test_doubtful_rows_follow_when_there_are_labels() -> None:
    labels = np.where(np.arange(300) % 50 < 20, KINDS, -1)
    doubt = np.arange(300) % 50 / 50
    picks = choose_rows(BLOBS, labels, 12, doubt=doubt, classes=KINDS)
    doubtful = [pick.place for pick in picks if not pick.rows]
    assert sorted(KINDS[doubtful]) == [0, 1, 2, 3, 4, 5]
    assert all(doubt[place] > 0.9 for place in doubtful)
    assert [doubtful_share(KINDS[:0]), doubtful_share(np.repeat([0, 1, -1], [10, 10, 99]))] == [0, 0]


def test_doubt_is_highest_between_two_classes() -> None:
    doubt = measure_doubt(np.log([[0.9, 0.05, 0.05], [0.45, 0.5, 0.05]]))
    assert doubt == pytest.approx([0.15, 0.95])

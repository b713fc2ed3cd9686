"""The order of rows that stay in their files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.data.large import order
from flowgmm_cli.data.large.order import LocalShuffle


def shuffled(shuffle: LocalShuffle, epoch: int) -> list[np.ndarray]:
    """The rows of each buffer, as a reader of the pieces would have them."""
    buffers = []
    for buffer in range(len(shuffle.ends(epoch))):
        pieces = shuffle.pieces(epoch, buffer)
        read = [piece.start + shuffle.kept(piece.start, piece.start + piece.rows) for piece in pieces]
        rows = np.concatenate(read)
        placed = np.empty_like(rows)
        placed[shuffle.places(epoch, buffer).numpy()] = rows
        buffers.append(placed)
    return buffers


@pytest.fixture
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "_SHORTEST", 4)


groups = st.lists(st.integers(1, 5000), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    sizes=groups,
    out=st.sets(st.integers(0, 60_000), max_size=40),
    buffer=st.integers(1, 20_000),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_every_row_that_is_taken_comes_once_in_an_epoch(sizes, out, buffer, epoch, seed):
    total = sum(sizes)
    left_out = np.array(sorted(row for row in out if row < total), dtype=np.int64)
    if len(left_out) == total:
        return

    def make() -> LocalShuffle:
        return LocalShuffle(np.array(sizes), left_out, buffer_rows=buffer, seed=seed)

    one, other = make(), make()
    other.ends(epoch + 1)  # what was asked before makes no difference
    rows = shuffled(one, epoch)
    assert sorted(np.concatenate(rows).tolist()) == sorted(set(range(total)) - set(left_out.tolist()))
    assert one.rows == total - len(left_out)
    assert np.cumsum([len(part) for part in rows]).tolist() == one.ends(epoch).tolist()
    assert max(map(len, rows)) <= buffer + max(order._SHORTEST, buffer // 16)
    assert all((a == b).all() for a, b in zip(rows, shuffled(other, epoch), strict=True))


def test_a_group_is_cut_into_pieces_of_its_own_rows():
    shuffle = LocalShuffle(np.array([10_000, 1, 3000]), np.empty(0, np.int64), buffer_rows=1000, seed=0)
    starts = np.array([0, 10_000, 10_001])
    pieces = [one for buffer in range(len(shuffle.ends(0))) for one in shuffle.pieces(0, buffer)]
    assert all(piece.start == starts[piece.group] + piece.offset for piece in pieces)
    assert all(1 <= piece.rows <= 1024 for piece in pieces)
    assert sum(piece.rows for piece in pieces) == 13_001


def test_epochs_and_seeds_have_orders_of_their_own():
    def of(seed: int, epoch: int) -> list[int]:
        shuffle = LocalShuffle(np.full(20, 300), np.empty(0, np.int64), buffer_rows=1500, seed=seed)
        return np.concatenate(shuffled(shuffle, epoch)).tolist()

    assert of(0, 0) == of(0, 0)
    assert of(0, 0) != of(0, 1)
    assert of(0, 0) != of(1, 0)


@pytest.mark.usefixtures("short_pieces")
def test_a_batch_has_rows_from_all_pieces_of_its_buffer():
    shuffle = LocalShuffle(np.full(400, 100), np.empty(0, np.int64), buffer_rows=4000, seed=3)
    for number, rows in enumerate(shuffled(shuffle, 0)):
        pieces = shuffle.pieces(0, number)
        assert len(pieces) >= 16
        starts = np.array([piece.start for piece in pieces])
        for batch in np.array_split(rows, 10):
            counts = np.bincount(np.searchsorted(starts, batch, side="right") - 1, minlength=len(pieces))
            assert (counts > 0).mean() > 0.95
            assert counts.max() < 5 * len(batch) / len(pieces) + 10


@pytest.mark.usefixtures("short_pieces")
def test_buffers_are_made_of_pieces_from_the_whole_table():
    shuffle = LocalShuffle(np.full(400, 100), np.empty(0, np.int64), buffer_rows=4000, seed=3)
    for rows in shuffled(shuffle, 0):
        assert rows.mean() == pytest.approx(20_000, abs=6000)
        assert rows.max() - rows.min() > 25_000

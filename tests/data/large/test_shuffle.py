"""The order of rows that stay on disk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.data.large import shuffle as shuffle_module
from flowgmm_cli.data.large.shuffle import LocalShuffle


def read_buffers(shuffle: LocalShuffle, epoch: int) -> list[np.ndarray]:
    """Return the rows of each buffer, as a reader of the ranges would."""
    buffers = []
    for buffer in range(len(shuffle.ends(epoch))):
        ranges = shuffle.ranges(epoch, buffer)
        read = [
            row_range.start + shuffle.select(row_range.start, row_range.start + row_range.rows)
            for row_range in ranges
        ]
        rows = np.concatenate(read)
        placed = np.empty_like(rows)
        placed[shuffle.permutation(epoch, buffer).numpy()] = rows
        buffers.append(placed)
    return buffers


@pytest.fixture
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffle_module, "_MIN_RANGE_ROWS", 4)


groups = st.lists(st.integers(1, 5000), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    sizes=groups,
    out=st.sets(st.integers(0, 60_000), max_size=40),
    buffer=st.integers(1, 20_000),
    epoch=st.integers(0, 3),
    seed=st.integers(0, 3),
)
def test_an_epoch_has_every_row_once(sizes, out, buffer, epoch, seed):
    total = sum(sizes)
    left_out = np.array(sorted(row for row in out if row < total), dtype=np.int64)
    if len(left_out) == total:
        return

    def make() -> LocalShuffle:
        return LocalShuffle(np.array(sizes), left_out, buffer_rows=buffer, seed=seed)

    first, second = make(), make()
    second.ends(epoch + 1)  # earlier calls make no difference
    rows = read_buffers(first, epoch)
    assert sorted(np.concatenate(rows).tolist()) == sorted(set(range(total)) - set(left_out.tolist()))
    assert first.rows == total - len(left_out)
    assert np.cumsum([len(part) for part in rows]).tolist() == first.ends(epoch).tolist()
    assert max(map(len, rows)) <= buffer + max(shuffle_module._MIN_RANGE_ROWS, buffer // 16)
    assert all((a == b).all() for a, b in zip(rows, read_buffers(second, epoch), strict=True))


def test_ranges_partition_each_group():
    shuffle = LocalShuffle(np.array([10_000, 1, 3000]), np.empty(0, np.int64), buffer_rows=1000, seed=0)
    starts = np.array([0, 10_000, 10_001])
    ranges = [row_range for buffer in range(len(shuffle.ends(0))) for row_range in shuffle.ranges(0, buffer)]
    assert all(row_range.start == starts[row_range.group] + row_range.offset for row_range in ranges)
    assert all(1 <= row_range.rows <= 1024 for row_range in ranges)
    assert sum(row_range.rows for row_range in ranges) == 13_001


def test_the_order_depends_on_epoch_and_seed():
    def order(seed: int, epoch: int) -> list[int]:
        shuffle = LocalShuffle(np.full(20, 300), np.empty(0, np.int64), buffer_rows=1500, seed=seed)
        return np.concatenate(read_buffers(shuffle, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)


@pytest.mark.usefixtures("short_ranges")
def test_a_batch_has_rows_from_all_ranges_of_its_buffer():
    shuffle = LocalShuffle(np.full(400, 100), np.empty(0, np.int64), buffer_rows=4000, seed=3)
    for number, rows in enumerate(read_buffers(shuffle, 0)):
        ranges = shuffle.ranges(0, number)
        assert len(ranges) >= 16
        starts = np.array([row_range.start for row_range in ranges])
        for batch in np.array_split(rows, 10):
            counts = np.bincount(np.searchsorted(starts, batch, side="right") - 1, minlength=len(ranges))
            assert (counts > 0).mean() > 0.95
            assert counts.max() < 5 * len(batch) / len(ranges) + 10


@pytest.mark.usefixtures("short_ranges")
def test_buffers_have_ranges_from_the_whole_table():
    shuffle = LocalShuffle(np.full(400, 100), np.empty(0, np.int64), buffer_rows=4000, seed=3)
    for rows in read_buffers(shuffle, 0):
        assert rows.mean() == pytest.approx(20_000, abs=6000)
        assert rows.max() - rows.min() > 25_000

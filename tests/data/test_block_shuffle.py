"""Rows are read in blocks, in a random order that does not depend on the number of processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgmm_cli.data.block_shuffle import BlockShuffle
from flowgmm_cli.data.tensors import Store
from flowgmm_cli.errors import DataError


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rows")]


@pytest.fixture(autouse=True)
def no_threads_are_left() -> Iterator[None]:
    yield
    assert not threads()


def make_store(rows: int, memory: int = 0, reads: list[tuple[int, int]] | None = None) -> Store:
    """Rows of two numbers: the position, and its negative."""
    table = np.arange(rows, dtype=np.float32)[:, None] * np.array([1, -1], dtype=np.float32)

    def read(start: int, stop: int) -> Any:
        if reads is not None:
            reads.append((start, stop))
        return table[start:stop]

    none = np.empty(0, dtype=np.int64)
    return Store(rows, 2, np.dtype(np.float32), read, none, none, memory, dim=2)


def shuffle(store: Store, left_out: Any = (), *, seed: int = 0, rank: int = 0, size: int = 1) -> BlockShuffle:
    return BlockShuffle(store, np.array(left_out, dtype=np.int64), seed=seed, rank=rank, world_size=size)


def epoch(item: BlockShuffle, number: int = 0, batch: int = 70) -> list[int]:
    starts = range(0, len(item), batch)
    parts = [item.batch(number, start, min(batch, len(item) - start)) for start in starts]
    item.close()
    x = torch.cat(parts)
    assert torch.equal(x[:, 0], -x[:, 1])
    return x[:, 0].long().tolist()


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9000),
    out=st.sets(st.integers(0, 9000), max_size=60),
    memory=st.sampled_from([0, 2**20, 2**40]),
    number=st.integers(0, 2),
    seed=st.integers(0, 2),
)
def test_an_epoch_has_every_row_at_most_once_and_nearly_all(rows, out, memory, number, seed):
    left_out = sorted(row for row in out if row < rows)
    if len(left_out) == rows:
        return
    item = shuffle(make_store(rows, memory), left_out, seed=seed)
    seen = epoch(item, number, batch=997)
    assert len(set(seen)) == len(seen) == len(item)
    assert not set(seen) & set(left_out)
    assert set(seen) <= set(range(rows))
    missing = rows - len(left_out) - len(seen)
    assert 0 <= missing < (48 if rows - len(left_out) >= 48 * 16 else 1)


def test_rows_can_be_read_in_any_order():
    straight, jumping = shuffle(make_store(9000), seed=3), shuffle(make_store(9000), seed=3)
    parts = {(number, at): straight.batch(number, at, 300) for number in (0, 1) for at in range(0, 8000, 300)}
    for number, at in ((1, 900), (0, 0), (0, 1500), (1, 900), (0, 7800)):
        assert torch.equal(jumping.batch(number, at, 300), parts[number, at])
    assert not torch.equal(parts[0, 0], parts[1, 0])
    assert epoch(shuffle(make_store(9000), seed=4)) != epoch(straight)
    jumping.close()


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_read_the_batch_of_a_single_process_and_their_share_of_the_store(size: int) -> None:
    rows, reads = 60_000, [[] for _ in range(size)]
    alone = shuffle(make_store(rows, memory=2**20))
    together = [shuffle(make_store(rows, 2**20, reads[rank]), rank=rank, size=size) for rank in range(size)]
    for number in (0, 1):
        for start in range(0, len(alone) - 1200, 1200):
            whole = alone.batch(number, start, 1200)[:, 0]
            parts = [item.batch(number, start, 1200)[:, 0] for item in together]
            assert [len(part) for part in parts] == [1200 // size] * size
            assert sorted(torch.cat(parts).tolist()) == sorted(whole.tolist())
    for item in (alone, *together):
        item.close()
    for read in reads:  # each buffer once, and the next epoch's first ahead
        assert sum(stop - start for start, stop in read) < 2.3 * rows / size


def test_a_batch_that_cannot_be_divided_has_equally_many_rows_in_each_process():
    for size in (2, 5):
        items = [shuffle(make_store(5000), rank=rank, size=size) for rank in range(size)]
        for start in (0, 7, len(items[0]) - 7):
            parts = [item.batch(0, start, 7)[:, 0].tolist() for item in items]
            assert {len(part) for part in parts} == {-(-7 // size)}
            assert len({row for part in parts for row in part}) == sum(map(len, parts))
        for item in items:
            item.close()


def test_a_batch_has_rows_from_all_parts_of_the_store():
    item = shuffle(make_store(100_000, memory=2**20))
    for start in range(0, 90_000, 9000):
        rows = item.batch(0, start, 960)[:, 0]
        counts = torch.histc(rows, bins=10, min=0, max=100_000)
        assert counts.min() > 0
        assert counts.max() < 400
    item.close()


def test_there_are_at_most_two_buffers_and_the_next_is_read_ahead():
    item = shuffle(make_store(20_000))
    assert not threads()  # nothing is read before the first call
    for start in range(0, len(item), 600):
        item.batch(0, start, min(600, len(item) - start))
        assert len(item._ready) == 2
    assert (1, 0) in item._ready  # of the next epoch
    assert threads()
    item.close()
    assert not threads()
    item.batch(0, 0, 10)  # reading begins again
    item.close()


def test_closing_does_not_wait_for_a_whole_buffer():
    store, read = make_store(20_000), []

    def slowly(start: int, stop: int) -> Any:
        time.sleep(0.02)
        read.append(start)
        return store.read(start, stop)

    item = shuffle(replace(store, read=slowly))
    item.batch(0, 0, 10)
    before = len(read)
    item.close()
    assert len(read) <= before + 2


def test_an_error_of_the_thread_reaches_the_caller():
    def refuse(start: int, stop: int) -> Any:
        raise DataError("the file is gone")

    item = shuffle(replace(make_store(900), read=refuse))
    with pytest.raises(DataError, match="the file is gone"):
        item.batch(0, 0, 10)
    item.close()


def test_buffers_are_as_long_as_the_memory_allows():
    for memory, longest in ((0, 4096), (8 * 8 * 10_000, 10_000), (2**40, 2**19)):
        item = shuffle(make_store(60_000, memory))
        assert item._depth * 48 <= longest + 48
        assert item._buffers == -(-item._lane_rows * 48 // longest)

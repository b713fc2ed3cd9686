from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.training.dataset import Sampler
from flowgmm_cli.training.distributed import Distributed


def make(
    rows: int = 20,
    labelled: int = 5,
    *,
    batch_size: int = 6,
    labelled_batch_size: int = 5,
    seed: int = 0,
    pool: Any = "all",
    group: Distributed | None = None,
) -> Sampler:
    labels = torch.full((rows,), -1)
    labels[:labelled] = torch.arange(labelled) % 2
    return Sampler(
        Tensors(torch.arange(rows)[:, None].float(), labels),
        batch_size=batch_size,
        labelled_batch_size=labelled_batch_size,
        seed=seed,
        pool=pool,
        group=group,
    )


def epoch(sampler: Sampler, number: int) -> list[int]:
    steps = range(number * sampler.steps_per_epoch, (number + 1) * sampler.steps_per_epoch)
    return [row for step in steps for row in sampler.unlabelled(step).tolist()]


@given(rows=st.integers(2, 60), batch=st.integers(1, 80), number=st.integers(0, 5), seed=st.integers(0, 3))
def test_a_pass_takes_each_row_at_most_once_and_leaves_out_less_than_a_batch(
    rows: int, batch: int, number: int, seed: int
) -> None:
    sampler = make(rows, 1, batch_size=batch, seed=seed)
    seen = epoch(sampler, number)
    assert max(Counter(seen).values()) == 1
    assert set(seen) <= set(range(rows))
    assert 0 <= rows - len(seen) < min(batch, rows)


def test_every_row_has_its_turn_though_a_pass_leaves_some_out() -> None:
    sampler = make(20, batch_size=6)
    assert {row for number in range(8) for row in epoch(sampler, number)} == set(range(20))


def test_passes_have_different_orders_and_so_have_seeds() -> None:
    assert epoch(make(), 0) != epoch(make(), 1)
    assert epoch(make(seed=0), 0) != epoch(make(seed=1), 0)


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    straight, jumping = make(labelled_batch_size=2), make(labelled_batch_size=2)
    batches = [(straight.labelled(step), straight.unlabelled(step)) for step in range(12)]
    for step in (11, 0, 5, 5, 3, 7):
        again = jumping.labelled(step), jumping.unlabelled(step)
        assert all(torch.equal(a, b) for a, b in zip(again, batches[step], strict=True))


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    make(labelled_batch_size=2).batch(3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    sampler = make(20, batch_size=1000, labelled_batch_size=1000)
    labelled, unlabelled = sampler.labelled(0), sampler.unlabelled(0)
    assert sampler.steps_per_epoch == 1
    assert labelled.tolist() == list(range(5))
    assert sorted(unlabelled.tolist()) == list(range(20))


def test_the_pool_can_be_the_unlabelled_rows() -> None:
    sampler = make(20, 5, batch_size=15, pool="unlabelled")
    assert sorted(epoch(sampler, 0)) == list(range(5, 20))


def test_labelled_rows_are_drawn_without_repetition_and_evenly() -> None:
    sampler = make(20, 5, labelled_batch_size=2)
    draws = [sampler.labelled(step).tolist() for step in range(600)]
    assert all(len(set(draw)) == 2 and set(draw) <= set(range(5)) for draw in draws)
    counts = Counter(row for draw in draws for row in draw)
    assert all(count == pytest.approx(240, rel=0.2) for count in counts.values())


def test_without_unlabelled_rows_a_pass_is_over_the_labelled() -> None:
    sampler = make(5, 5, batch_size=4, labelled_batch_size=2, pool="unlabelled")
    assert sampler.steps_per_epoch == 3
    assert [len(part) for part in sampler.batch(4)] == [2, 0]


def test_without_labelled_rows_only_the_pool_is_drawn() -> None:
    assert [len(part) for part in make(20, 0).batch(0)] == [0, 6]


def test_processes_share_a_batch() -> None:
    samplers = [
        make(20, 4, batch_size=6, labelled_batch_size=4, group=Distributed(rank, 2)) for rank in range(2)
    ]
    parts = [sampler.batch(3) for sampler in samplers]
    for index, whole in enumerate(samplers[0].batch(3, whole=True)):
        x = torch.cat([part[index].x for part in parts])
        assert sorted(x.flatten().tolist()) == sorted(whole.x.flatten().tolist())
    assert sorted(torch.cat([part[0].labels for part in parts]).tolist()) == [0, 0, 1, 1]

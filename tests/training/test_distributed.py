"""Data-parallel training in real processes, with gloo."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli import processes
from flowgmm_cli.errors import UsageError
from flowgmm_cli.training.distributed import Distributed, init_process_group

# twenty steps of every loss without random numbers, and batches that divide evenly
TWENTY_STEPS = """
from flowgmm_cli.regularisers.specs import SPECS

NOISY = {"vat", "mixup", "log_det_penalty"}  # random directions, partners, points

def fit(group):
    g = torch.Generator().manual_seed(1)
    flow = RealNVP(4, couplings=2, hidden=8, depth=1, generator=g)
    losses = [{"use": name, "weight": 0.7} for name in SPECS if name not in NOISY]
    assert len(losses) > 2
    x = torch.randn(96, 4, generator=g)
    trainer = trainer_of(flow, x, group, labelled=12, regularisers=losses, batch_size=24, epochs=5)
    result = trainer.fit()
    assert result.progress.step == 20
    teacher = {f"teacher.{name}": value for name, value in result.model.state_dict().items()}
    return {**trainer.model.state_dict(), **teacher}

with init_process_group("cpu") as group:
    expected, together = fit(Distributed()), fit(group)
    for name, value in expected.items():
        assert (together[name] - value).abs().max() < 1e-4, name
    print(len(expected))
"""
COLLECTIVES = """
with init_process_group("cpu") as group:
    ranks = list(range(group.world_size))
    assert group.all_reduce(torch.tensor([float(group.rank)])).item() == sum(ranks)
    assert group.all_gather(torch.tensor([[group.rank]])).flatten().tolist() == ranks
    state = [torch.tensor([group.rank]), torch.tensor(float(group.rank))]
    group.broadcast(state)
    assert [value.item() for value in state] == [0, 0.0]
    assert group.broadcast_text("Zoë" if group.is_main_process else "") == "Zoë"
"""
TURNS = """
import os, time
os.environ["LOCAL_RANK"] = str(max(0, int(os.environ["RANK"]) - 1))  # rank 1 is the first of another machine
with init_process_group("cpu") as group:
    start = time.monotonic()
    time.sleep(0.3 if group.rank == 1 else 0)
    group.barrier()
    assert time.monotonic() - start > 0.2
    with group.main_process_first():
        turn = [time.monotonic()]
        time.sleep(0.2)
        turn.append(time.monotonic())
    times = group.all_gather(torch.tensor([turn], dtype=torch.float64)).tolist()
    for (_, end), (start, _) in zip(times, times[1:]):
        assert start >= end, times
"""
PEER_ENDS = """
import os
from flowgmm_cli.errors import LostProcessError
with init_process_group("cpu") as group:
    group.barrier()
    if not group.is_main_process:
        os._exit(0)
    try:
        for _ in range(100):
            group.all_reduce(torch.ones(3))
    except LostProcessError:
        print("noticed")
        os._exit(0)
"""
MAIN_PROCESS_FAILS = """
import atexit, sys, time
atexit.register(time.sleep, 1)  # the main process holds the store, which a launcher does elsewhere
from flowgmm_cli.errors import DataError, LostProcessError
try:
    with init_process_group("cpu") as group:
        group.barrier()
        if group.is_main_process:
            raise DataError("no such file")
        group.barrier()
except (DataError, LostProcessError) as error:
    print(type(error).__name__, error.exit_code)
    sys.exit()
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_twenty_steps_of_losses_without_noise_are_those_of_one_process(run_all: Any, count: int) -> None:
    outputs = run_all(TWENTY_STEPS, count)
    assert len(set(outputs)) == 1
    assert int(outputs[0]) > 20


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_tensors_and_text_reach_all_processes(run_all: Any, count: int) -> None:
    run_all(COLLECTIVES, count)


@pytest.mark.slow
def test_processes_wait_for_each_other_and_take_turns(run_all: Any) -> None:
    run_all(TURNS, 3)


@pytest.mark.slow
def test_a_lost_peer_is_an_error(run_all: Any) -> None:
    assert run_all(PEER_ENDS, 2)[0] == "noticed\n"


@pytest.mark.slow
def test_lost_processes_end_with_the_exit_code_of_the_main_process(run_all: Any) -> None:
    assert run_all(MAIN_PROCESS_FAILS, 2) == ["DataError 5\n", "LostProcessError 5\n"]


@given(rows=st.integers(1, 50), count=st.integers(1, 9))
def test_shards_have_equal_lengths_and_cover_all_rows(rows: int, count: int) -> None:
    shards = [Distributed(rank, count).shard(torch.arange(rows)).tolist() for rank in range(count)]
    assert {len(shard) for shard in shards} == {-(-rows // count)}
    assert sorted({row for shard in shards for row in shard}) == list(range(rows))


def test_a_single_process_changes_nothing() -> None:
    with init_process_group("cpu") as group:
        assert group.world_size == 1
        assert group.is_main_process
        x = torch.arange(6.0)
        assert group.shard(x) is x
        assert group.all_gather(x) is x
        group.all_reduce(x)
        group.broadcast([x])
        group.barrier()
        assert torch.equal(x, torch.arange(6.0))
        assert group.broadcast_text("word") == "word"


def test_processes_notice_the_end_of_their_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_PARENT", os.getppid() + 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not processes.parent_has_ended()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes.parent_has_ended()
    monkeypatch.setattr(processes, "_PARENT", os.getppid())
    assert not processes.parent_has_ended()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="4 processes are to share 2 GPUs"), init_process_group("auto"):
        pass

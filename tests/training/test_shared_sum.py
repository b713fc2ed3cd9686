"""Sums in memory that processes share, in real processes, and what happens where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from flowgmm_cli.training import meeting
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.shared_sum import SharedSum

RunAll = Callable[[str, int], list[str]]

HEAD = """
import errno, os, time
from pathlib import Path
from flowgmm_cli.errors import LostProcessError
from flowgmm_cli.training import shared_sum
from flowgmm_cli.training.shared_sum import SharedSum
"""
# vectors that do not divide evenly, in both dtypes; one process is late each time
SUMS = """
before = set(os.listdir("/dev/shm"))
with joined("cpu") as processes:
    for kind in (torch.float32, torch.float64):
        shared = SharedSum.like(torch.empty(1001, dtype=kind), processes)
        assert shared.mine.dtype == kind and not shared.mine.any()
        for step in range(20):
            given = [torch.full((1001,), 10.0 * step + rank, dtype=kind) for rank in range(processes.count)]
            time.sleep(0.02 * (step % processes.count == processes.rank))
            shared.mine.copy_(given[processes.rank])
            total = shared.add_up()
            assert torch.equal(total, sum(given)), step
    processes.wait()
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("flowgmm-")]
    print("added up")
"""
# the last process sees other memory, or the first finds none left
ELSEWHERE = """
with joined("cpu") as processes:
    if processes.rank == processes.count - 1:
        shared_sum._opened = lambda *facts: None
    assert SharedSum.like(torch.empty(5), processes) is None
"""
FULL = """
def full(handle, start, size):
    raise OSError(errno.ENOSPC, "No space left on device")
os.posix_fallocate = full
before = set(os.listdir("/dev/shm"))
with joined("cpu") as processes:
    assert processes.meeting is None
    assert SharedSum.like(torch.empty(5), processes) is None
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("flowgmm-")]
"""
APART = """
os.environ["LOCAL_WORLD_SIZE"] = "1"
with joined("cpu") as processes:
    assert SharedSum.like(torch.empty(5), processes) is None
"""
GONE = """
with joined("cpu") as processes:
    shared = SharedSum.like(torch.empty(5), processes)
    shared.add_up()
    if not processes.leads:
        os._exit(0)
    try:
        for _ in range(100):
            shared.add_up()
    except LostProcessError:
        print("noticed")
        os._exit(0)
"""
needs_memory = pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm on this system")


@needs_memory
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_what_processes_write_is_added_up(run_all: RunAll, count: int) -> None:
    assert run_all(HEAD + SUMS, count) == ["added up\n"] * count


@needs_memory
@pytest.mark.slow
@pytest.mark.parametrize("code", [ELSEWHERE, FULL, APART], ids=["elsewhere", "full", "apart"])
def test_where_not_all_see_the_memory_none_has_it(run_all: RunAll, code: str) -> None:
    run_all(HEAD + code, 2)


@needs_memory
@pytest.mark.slow
def test_a_process_that_is_gone_is_noticed(run_all: RunAll) -> None:
    assert run_all(HEAD + GONE, 2)[0] == "noticed\n"


def test_a_system_without_such_memory_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meeting, "MEMORY", tmp_path / "none")
    assert meeting.reserved(100) == ""


def test_a_process_by_itself_or_with_others_elsewhere_shares_nothing() -> None:
    assert SharedSum.like(torch.empty(5), Processes()) is None
    assert SharedSum.like(torch.empty(5), Processes(rank=0, count=4, here=2)) is None

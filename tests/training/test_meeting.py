"""Meetings of real processes in memory that all of them see, and what happens where there is none."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RunAll = Callable[[str, int], list[str]]

in_memory = pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or platform.machine().lower() not in ("x86_64", "amd64"),
    reason="processes meet in /dev/shm, on x86",
)

HEAD = """
import os, time
from flowgmm_cli.errors import LostProcessError
from flowgmm_cli.training import meeting
"""
# one of them is late each time, now and then for so long that the others take naps
EXCHANGES = """
before = set(os.listdir("/dev/shm"))
with joined("cpu") as processes:
    place = processes.meeting
    assert place is not None
    processes.wait()
    assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("flowgmm-")]
    for turn in range(60):
        kind = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)[turn % 6]
        shape = ((3,), (1, 4), (2, 5, 7), (64, 384))[turn % 4]
        def of(rank):
            return torch.full(shape, (turn + rank) % 2 if kind is torch.bool else turn + rank, dtype=kind)
        if turn % processes.count == processes.rank:
            time.sleep(0.1 if turn % 10 == 0 else 0.001)
        found = processes.meeting.exchange(of(processes.rank), 60.0)
        assert found.dtype == kind
        assert torch.equal(found, torch.cat([of(rank) for rank in range(processes.count)])), turn
        transposed = torch.arange(6.0).reshape(2, 3).T + processes.rank
        found = place.exchange(transposed, 60.0)
        assert torch.equal(found[3:6], torch.arange(6.0).reshape(2, 3).T + 1)
        kept = place.exchange(torch.tensor([float(turn)]), 60.0)
        place.exchange(torch.tensor([-1.0]), 60.0)
        place.exchange(torch.tensor([-2.0]), 60.0)
        assert kept.tolist() == [float(turn)] * processes.count  # it is no longer in the room
    large = torch.arange(meeting.ROOM // 8 + 2.0, dtype=torch.float64) + processes.rank
    found = processes.together(large, processes.count * len(large))  # too large for the room: by messages
    assert torch.equal(found[len(large):2 * len(large)], large - processes.rank + 1)
    assert processes.all_agree(True) and not processes.all_agree(processes.leads)
    print("exchanged")
"""
NONE = """
with joined("cpu") as processes:
    assert processes.meeting is None
    whole = torch.arange(7.0)
    assert torch.equal(processes.together(whole[processes.share(7)], 7), whole)
    processes.wait()
    print("by messages")
"""
UNSEEN = """
if os.environ["RANK"] == "1":
    meeting.mmap.mmap = lambda *facts: (_ for _ in ()).throw(OSError("not here"))
"""
FOREIGN = """
meeting.platform.machine = lambda: "aarch64"
"""
ENDS = """
with joined("cpu") as processes:
    processes.wait()
    if not processes.leads:
        {end}
    try:
        processes.{call}
    except LostProcessError:
        print("noticed")
        os._exit(0)
"""
# who comes to the last meeting and leaves at once has come
LEAVES = """
meeting._ATTENTIVE, meeting._ROUND, meeting._NAP = 0.0, 0.0, 0.2
with joined("cpu") as processes:
    processes.wait()
    if not processes.leads:
        time.sleep(0.5)
    processes.wait()
    if processes.leads:
        time.sleep(0.5)
print("left")
"""


@in_memory
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_what_processes_bring_all_have(run_all: RunAll, count: int) -> None:
    assert run_all(HEAD + EXCHANGES, count) == ["exchanged\n"] * count


@in_memory
@pytest.mark.slow
@pytest.mark.parametrize("hindrance", [UNSEEN, FOREIGN], ids=["unseen", "foreign"])
def test_where_there_is_no_place_they_write(run_all: RunAll, hindrance: str) -> None:
    assert run_all(HEAD + hindrance + NONE, 2) == ["by messages\n"] * 2


@in_memory
@pytest.mark.slow
@pytest.mark.parametrize("call", ["wait()", "together(torch.ones(1), 2)"])
@pytest.mark.parametrize("end", ["os._exit(0)", "raise SystemExit(0)"])
def test_a_process_that_is_gone_is_noticed(run_all: RunAll, end: str, call: str) -> None:
    assert run_all(HEAD + ENDS.format(end=end, call=call), 2)[0] == "noticed\n"


@in_memory
@pytest.mark.slow
def test_who_has_come_may_leave(run_all: RunAll) -> None:
    assert run_all(HEAD + LEAVES, 2) == ["left\n"] * 2


def test_a_system_without_locks_and_memory_has_no_place(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.modules["fcntl"] = None
from flowgmm_cli.training import meeting
import flowgmm_cli.training.processes
meeting.MEMORY = Path({str(tmp_path / "none")!r})
assert meeting.arrange(0, 2, lambda text: text, lambda mine: mine) is None
"""
    subprocess.run([sys.executable, "-c", code], check=True)

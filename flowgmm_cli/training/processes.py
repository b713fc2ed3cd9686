"""The processes that train one model together, on one machine or several.

All of them do the same things in the same order and differ only in the rows they push through the networks,
see `flowgmm_cli.training.sharded`. The first, the leader, writes and talks; the others read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
from torch import Tensor, distributed

from flowgmm_cli.errors import LostProcessError, UsageError
from flowgmm_cli.training.meeting import GONE, ROOM, Meeting, arrange
from flowgmm_cli.training.ranks import several

_SIGNS = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Broken pipe")
_PATIENCE = timedelta(hours=6)  # the others wait while the leader encodes texts, say
# gloo's threads live on where something keeps their group (divided weights do) and need Python to let go of
# the last message; one that asks for it while Python shuts down aborts the process
_LETTING_GO = 0.1  # seconds


@dataclass(frozen=True)
class Processes:
    """This process among those of its run; by default it is alone, and everything here costs nothing.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
        local_rank: its number on its machine.
        here: how many are known to be on its machine.
        device: where its tensors live, as far as the surroundings decide that.
        meeting: where all of them meet, if they are on one machine and train on its CPU.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    here: int = 1
    device: torch.device | None = None
    meeting: Meeting | None = None

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.count == 1

    @property
    def leads(self) -> bool:
        """Whether this one writes and talks."""
        return self.rank == 0

    def share(self, rows: int) -> slice:
        """Which of so many rows are this one's; the shares differ by a row at most."""
        least, more = divmod(rows, self.count)
        start = self.rank * least + min(self.rank, more)
        return slice(start, start + least + (self.rank < more))

    def together(self, mine: Tensor, rows: int) -> Tensor:
        """All `rows` rows, of which `mine` is this one's share, in order. No gradient passes.

        Raises:
            LostProcessError: another process is gone.
        """
        if self.alone:
            return mine
        least, more = divmod(rows, self.count)
        if more:  # all send equally many
            room = mine.new_zeros(least + 1, *mine.shape[1:])
            room[: len(mine)] = mine
            mine = room
        found = self._gathered(mine)
        if not more:
            return found
        parts = found.view(self.count, least + 1, *mine.shape[1:])
        return torch.cat([part[: least + (rank < more)] for rank, part in enumerate(parts)])

    def _gathered(self, mine: Tensor) -> Tensor:
        if self.meeting is not None and mine.device.type == "cpu" and 0 < mine.nbytes <= ROOM:
            return self.meeting.exchange(mine, _PATIENCE.total_seconds())
        found = mine.new_empty(self.count * len(mine), *mine.shape[1:])
        with _lost():
            _all_gather(found, mine.contiguous())
        return found

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, the same in every bit everywhere.

        All travel as one, for each message costs time by itself.

        Raises:
            LostProcessError: another process is gone.
        """
        if self.alone or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.add_up(flat)
        flat /= self.count
        parts = flat.split_with_sizes([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over the processes, alike everywhere. Raises `LostProcessError`."""
        if not self.alone:
            with _lost():
                distributed.all_reduce(tensor)

    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by the leader's. Raises `LostProcessError`."""
        if self.alone:
            return
        with torch.no_grad(), _lost():
            for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
                alike = [tensor for tensor in tensors if tensor.dtype == kind]
                flat = torch.cat([tensor.reshape(-1) for tensor in alike])
                distributed.broadcast(flat, src=0)
                parts = flat.split_with_sizes([one.numel() for one in alike])
                for tensor, part in zip(alike, parts, strict=True):
                    tensor.copy_(part.view_as(tensor))

    def told(self, text: str) -> str:
        """What the leader says, whatever this one has to say. Raises `LostProcessError`."""
        if self.alone:
            return text
        said = torch.tensor(list(text.encode()), dtype=torch.uint8, device=self.device)
        length = torch.tensor([len(said)], device=self.device)
        with _lost():
            distributed.broadcast(length, src=0)
            said = said if self.leads else said.new_empty(int(length))
            distributed.broadcast(said, src=0)
        return bytes(said.tolist()).decode()

    def numbers(self, values: Mapping[str, float]) -> dict[str, float]:
        """The leader's values under the same names, so that all decide alike by them."""
        if self.alone:
            return dict(values)
        said = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        with _lost():
            distributed.broadcast(said, src=0)
        return dict(zip(values, said.tolist(), strict=True))

    def wait(self) -> None:
        """Until all have come here. Raises `LostProcessError`."""
        if self.meeting is not None:
            self.meeting.wait(_PATIENCE.total_seconds())
        else:
            self.add_up(torch.zeros(1, device=self.device))

    def all_agree(self, mine: bool) -> bool:
        """Whether all say so. Raises `LostProcessError`."""
        said = torch.tensor([float(mine)], device=self.device)
        self.add_up(said)
        return bool(said == self.count)

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """Let the leader do the block first, then one process on each other machine, then the rest.

        What one of them downloads or computes for all is then there for the next.
        """
        turn = 0 if self.leads else 1 if self.local_rank == 0 else 2
        if self.alone:
            yield
            return
        for _ in range(turn):
            self.wait()
        yield
        for _ in range(2 - turn):
            self.wait()


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Meet the other processes of the run, if there are any, and part from them at the end.

    Args:
        device: `run.device` of the recipe.

    Raises:
        LostProcessError: the others are not to be found.
        UsageError: there are more processes on this machine than GPUs.
    """
    if not several():
        yield Processes()
        return
    from accelerate import PartialState

    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and here > torch.cuda.device_count():
        raise UsageError(
            f"{here} processes are to share {torch.cuda.device_count()} GPUs of this machine",
            hint="as many processes as GPUs, or run.device=cpu",
        )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // here)))
    with _lost():
        state = PartialState(cpu=not on_gpu, timeout=_PATIENCE)
    found = Processes(state.process_index, state.num_processes, state.local_process_index, here, state.device)
    fine, meeting = False, None
    try:
        if here >= found.count and not on_gpu:
            meeting = arrange(found.rank, found.count, found.told, found.all_agree)
        yield replace(found, meeting=meeting)
        fine = True
    finally:
        if meeting is not None:
            meeting.leave()
        # GPUs that are taken leave of wait for the others, which after a failure may be gone; without leave a
        # process on a CPU is aborted as it ends, whatever its exit code.
        if fine or not on_gpu:
            state.destroy_process_group()
        if not on_gpu:
            time.sleep(_LETTING_GO)


def _all_gather(found: Tensor, mine: Tensor) -> None:
    # a list of tensors, which all versions take, is copied once more; the name has changed with torch 2.13
    gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
    gather(found, mine)


@contextmanager
def noticed() -> Iterator[None]:
    """Tell the loss of a process from other errors of the block, whose messages are sent by torch itself.

    Raises:
        LostProcessError: another process is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not means_a_loss(error):
            raise
        raise LostProcessError(GONE) from error


def means_a_loss(error: BaseException) -> bool:
    """Whether an error that torch raised says that a message could not be sent or received."""
    told = isinstance(error, RuntimeError) and any(word in str(error) for word in _SIGNS)
    return isinstance(error, distributed.DistError) or told


@contextmanager
def _lost() -> Iterator[None]:
    """A message that cannot be sent or received means that a process is gone."""
    try:
        yield
    except (distributed.DistError, RuntimeError) as error:
        raise LostProcessError(GONE) from error

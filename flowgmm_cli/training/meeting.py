"""Where the processes of one machine meet, and hand each other small tensors: memory that all of them see.

A message through sockets passes several threads that have to be woken one after the other. Between busy
processors that takes two milliseconds, several times a step. Here each process counts its comings where all
others look, and they look all the time.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.errors import LostProcessError

with contextlib.suppress(ImportError):  # Windows has none, and no such memory
    import fcntl

MEMORY = Path("/dev/shm")
ROOM = 2**22
"""Bytes that a process can hand over at once."""
_LINE = 64  # bytes; two counts in one line of the cache would be in each other's way
_ATTENTIVE = 0.02  # seconds of looking all the time
_NAP, _LONG_NAP = 0.0002, 0.005  # seconds; who waits for an encoder waits for minutes
_ROUND = 0.5  # seconds between two looks at whether the others are alive
GONE = "another process of this run is gone"


class Meeting:
    """The place, as one process sees it. All must come to the same meetings in the same order.

    Args:
        path: a file of at least `Meeting.size(count)` zeros, beside it a file to lock for each process.
        rank: this process's number.
        count: how many there are.

    Raises:
        OSError: the files are not there, or cannot be locked.
    """

    def __init__(self, path: Path, rank: int, count: int) -> None:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), Meeting.size(count))
        self._rank, self._come, self._turn = rank, 0, 0
        self._comings = np.frombuffer(memory, np.int64, count * _LINE // 8)[:: _LINE // 8]
        room = torch.frombuffer(memory, dtype=torch.uint8, offset=count * _LINE)
        self._rooms = room.view(2, count, ROOM)
        self._locks = [os.open(lock, os.O_RDWR) for lock in Meeting.locks(path, count)]
        fcntl.flock(
            self._locks[rank], fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # the system lets go of it, whatever comes

    @staticmethod
    def size(count: int) -> int:
        """Bytes of the place for so many processes."""
        return count * (_LINE + 2 * ROOM)

    @staticmethod
    def locks(path: Path, count: int) -> list[Path]:
        """The files that say who is alive."""
        return [path.with_name(f"{path.name}-{rank}") for rank in range(count)]

    def wait(self, patience: float) -> None:
        """Until all have come here.

        Args:
            patience: seconds.

        Raises:
            LostProcessError: another process is gone.
        """
        self._come += 1
        self._comings[self._rank] = self._come
        start = looked = time.monotonic()
        while self._comings.min() < self._come:
            now = time.monotonic()
            if now - start < _ATTENTIVE:
                os.sched_yield()
                continue
            time.sleep(_NAP if now - start < 1 else _LONG_NAP)
            if now - looked > _ROUND:
                looked = now
                # who has come may be gone since
                if (self._lost() and self._comings.min() < self._come) or now - start > patience:
                    raise LostProcessError(GONE)

    def exchange(self, mine: Tensor, patience: float) -> Tensor:
        """What all have brought, one after the other.

        A place is written again two exchanges later, when all have left the one between, so have read it.

        Args:
            mine: `(n, ...)` of at most `ROOM` bytes, of the same shape for all.
            patience: seconds.

        Returns:
            `(count * n, ...)`.

        Raises:
            LostProcessError: another process is gone.
        """
        self._turn = 1 - self._turn
        rooms = self._rooms[self._turn]
        brought = mine.detach().contiguous().view(-1).view(torch.uint8)
        rooms[self._rank, : len(brought)] = brought
        self.wait(patience)
        found = rooms[:, : len(brought)].clone(memory_format=torch.contiguous_format)
        return found.view(-1).view(mine.dtype).view(-1, *mine.shape[1:])

    def leave(self) -> None:
        """Be gone, for the others."""
        for lock in self._locks:
            os.close(lock)
        self._locks = []

    def _lost(self) -> bool:
        for rank, lock in enumerate(self._locks):
            if rank == self._rank:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:  # it is held
                continue
            fcntl.flock(lock, fcntl.LOCK_UN)
            return True
        return False


def arrange(
    rank: int, count: int, told: Callable[[str], str], all_agree: Callable[[bool], bool]
) -> Meeting | None:
    """A place for the processes to meet; None where there is none, or not all see it.

    Args:
        rank: this process's number.
        count: how many there are.
        told: what the first of them says, whatever this one says.
        all_agree: whether all say so.
    """
    # elsewhere what is written first need not be seen first
    fit = platform.machine().lower() in ("x86_64", "amd64")
    path = Path(told(reserved(Meeting.size(count), beside=count) if rank == 0 and fit else ""))
    place = None
    try:
        if path.name:
            place = Meeting(path, rank, count)
    except OSError:
        place = None
    finally:
        agreed = all_agree(place is not None)
        if path.name and rank == 0:
            for file in (path, *Meeting.locks(path, count)):
                file.unlink(missing_ok=True)  # the memory lives as long as somebody sees it, and no longer
    if place is not None and not agreed:
        place.leave()
    return place if agreed else None


def reserved(size: int, *, beside: int = 0) -> str:
    """A new file of so many bytes of memory, and empty ones `beside` it; "" where there is no room."""
    if not (MEMORY.is_dir() and hasattr(os, "posix_fallocate")):
        return ""
    path = ""
    try:
        handle, path = tempfile.mkstemp(prefix="flowgmm-", dir=MEMORY)
        with os.fdopen(handle, "wb"):
            os.posix_fallocate(handle, 0, size)  # to run out of it later is a crash
        for lock in Meeting.locks(Path(path), beside):
            lock.touch(exist_ok=False)
    except OSError:
        if path:
            for file in (Path(path), *Meeting.locks(Path(path), beside)):
                file.unlink(missing_ok=True)
        return ""
    return path

"""Processes: those that train together, and the one that trains a run or writes a file."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

_PARENT = os.getppid()


def process_info() -> dict[str, Any]:
    """Return number, host and time of start of this process, for `run.json`."""
    return {"pid": os.getpid(), "host": platform.node(), "pid_start": start_time(os.getpid())}


def is_alive(pid: object, start: object = None) -> bool:
    """Return True if a process of this machine is running.

    Another process may have the number of one that has ended; with the `start_time` of the process that is
    meant, it is not mistaken for it.
    """
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # a process of another user
        pass
    return not start or start_time(pid) in (0, start)


def start_time(pid: int) -> int:
    """Return the time at which a process began, in clock ticks since the system did; 0 if it is unknown."""
    try:
        # the name of the program, in brackets, may contain blanks
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return int(fields.split()[19])
    except (OSError, ValueError, IndexError):
        return 0


@cache
def host_digest() -> str:
    """Return a digest of the name of this machine, for file names."""
    return blake2b(platform.node().encode("utf-8", "surrogateescape"), digest_size=3).hexdigest()


@contextmanager
def lock_file(path: Path) -> Iterator[bool]:
    """Lock a file against other processes while a block runs; yield False where there are no locks.

    The system ends the lock of a process that ends in any way. NFS shares locks among machines, unless it was
    mounted without them.

    Raises:
        BlockingIOError: another process has locked the file.
    """
    with path.open("r+b") as file:  # NFS locks only files that are open for writing
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_locked = True
        except BlockingIOError:
            raise
        except (ImportError, OSError):  # Windows, or a file system without locks
            is_locked = False
        yield is_locked


# --- environment of a process, set by `torchrun`, `accelerate` or `--processes N` ---------------------------


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return True for the process that writes files and prints: rank 0, or the only process."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def parent_has_ended() -> bool:
    """Return True if the launcher that started this process has ended without stopping it."""
    return os.name == "posix" and world_size() > 1 and os.getppid() != _PARENT

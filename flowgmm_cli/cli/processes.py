"""Several processes of `flowgmm train` on this machine, for `--processes N`.

They find each other as under `torchrun`, by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. That program is
not called because its exit code is 1 whatever the matter is, and because it tells of a failed process by a
traceback of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from flowgmm_cli.errors import RunFailedError

_GRACE = 60.0  # seconds in which the others end by themselves when one has failed; the leader saves its state
_LAST = 10.0  # seconds between asking and killing
_PAUSE = 0.05


def launch(words: Sequence[str], count: int, *, hint: str) -> int:
    """Start processes, wait for all of them and tell what became of them.

    A signal is passed on to all; each has a session of its own, so that Ctrl-C comes from here alone.

    Args:
        words: command line of each, after `flowgmm`.
        count: how many.
        hint: what to do next if one is killed.

    Returns:
        The exit code: that of the process that failed, 0 if none did.

    Raises:
        RunFailedError: a process was killed from outside.
    """
    shared = _surroundings(count, os.environ)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            # the leader alone may read what the user types
            stdin = None if rank == 0 else subprocess.DEVNULL
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "flowgmm_cli", *words],
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=stdin,
                    start_new_session=True,
                )
            )
        with _passing_on(started):
            first = _wait(started)
    finally:
        _end(started)
    codes = [process.returncode for process in started]
    if first is not None and codes[first] < 0:
        name = signal.Signals(-codes[first]).name
        memory = "; this machine may have run out of memory" if name == "SIGKILL" else ""
        raise RunFailedError(f"process {first} of {count} was ended by {name}{memory}", hint=hint)
    return exit_code(codes)


def exit_code(codes: Sequence[int]) -> int:
    """The code that says most: that of the process with a reason of its own, the leader's before others'.

    >>> exit_code([0, 0]), exit_code([1, 5]), exit_code([3, 1]), exit_code([1, -15])
    (0, 5, 3, 1)
    """
    return next((code for code in codes if code > 1), int(any(codes)))


def _surroundings(count: int, environ: Mapping[str, str]) -> dict[str, str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    threads = max(1, (os.cpu_count() or 1) // count)
    return {
        "OMP_NUM_THREADS": str(threads),
        **environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "FLOWGMM_LAUNCHER": str(os.getpid()),
    }


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended, or some time after one has failed; returns that one."""
    failed, limit = None, float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < limit:
        if failed is None:
            failed = _failed(started)
            limit = time.monotonic() + _GRACE if failed is not None else limit
        time.sleep(_PAUSE)
    return _failed(started) if failed is None else failed


def _failed(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """A process that has failed; one that was killed, rather than one that missed it."""
    codes = {rank: code for rank, process in enumerate(started) if (code := process.poll())}
    return min(codes, key=lambda rank: codes[rank]) if codes else None


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is None:
            process.terminate()
    limit = time.monotonic() + _LAST
    for process in started:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _passing_on(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Send SIGINT and SIGTERM on to all processes."""

    def hear(number: int, frame: FrameType | None) -> None:
        for process in started:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Several processes of `flowgmm train` on this machine, for `--processes N`.

They find each other as under `torchrun`, by RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. That program is
not used because its exit code is always 1 and because it prints a traceback for a failed process.
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

_GRACE_SECONDS = 60.0  # after a failure, for the main process to save its state
_KILL_SECONDS = 10.0  # between SIGTERM and SIGKILL
_POLL_SECONDS = 0.05


def launch(words: Sequence[str], count: int, *, hint: str) -> int:
    """Start processes and wait for all of them.

    Signals are forwarded to all; each process has its own session, so that Ctrl-C reaches it only from here.

    Args:
        words: command line of each, after `flowgmm`.
        count: number of processes.
        hint: the next step if one is killed.

    Returns:
        The exit code: that of the process that failed, 0 if none did.

    Raises:
        RunFailedError: a process was killed from outside.
    """
    shared = _environment(count, os.environ)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(count):
            # only the main process reads the terminal
            stdin = None if rank == 0 else subprocess.DEVNULL
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "flowgmm_cli", *words],
                    env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=stdin,
                    start_new_session=True,
                )
            )
        with _forward_signals(started):
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
    """Return the most informative exit code: the first above 1, by rank, else 1 if any process failed.

    >>> exit_code([0, 0]), exit_code([1, 5]), exit_code([3, 1]), exit_code([1, -15])
    (0, 5, 3, 1)
    """
    return next((code for code in codes if code > 1), int(any(codes)))


def _environment(count: int, environ: Mapping[str, str]) -> dict[str, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
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
    """Wait until all have ended, or some time after one has failed; return the rank of that one."""
    failed, limit = None, float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < limit:
        if failed is None:
            failed = _find_failure(started)
            limit = time.monotonic() + _GRACE_SECONDS if failed is not None else limit
        time.sleep(_POLL_SECONDS)
    return _find_failure(started) if failed is None else failed


def _find_failure(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Return the rank of a failed process, preferably one that was killed by a signal."""
    codes = {rank: code for rank, process in enumerate(started) if (code := process.poll())}
    return min(codes, key=lambda rank: codes[rank]) if codes else None


def _end(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is None:
            process.terminate()
    limit = time.monotonic() + _KILL_SECONDS
    for process in started:
        try:
            process.wait(max(0.0, limit - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _forward_signals(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Forward SIGINT and SIGTERM to all processes."""

    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

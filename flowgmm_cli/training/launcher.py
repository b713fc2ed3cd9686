"""The environment of a process in distributed training, and `flowgmm train --processes N`.

`torchrun`, `accelerate launch` and `--processes N` set the same variables. Nothing imports torch before
processes are started.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence

from flowgmm_cli.errors import InterruptedRunError, RunFailedError

_PARENT = os.getppid()


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return True for the process that writes files and prints: rank 0, or the only process."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def parent_has_ended() -> bool:
    """Return True if the launcher that started this process has ended without stopping it."""
    return os.name == "posix" and world_size() > 1 and os.getppid() != _PARENT


def launch(arguments: Sequence[str], processes: int, *, hint: str) -> int:
    """Start `processes` processes of `flowgmm` on this machine with torch's elastic launcher, and wait.

    A signal is passed on to all of them. If a process fails, the others are asked to stop.

    Args:
        arguments: command line of each process, after `flowgmm`.
        processes: number of processes.
        hint: what to type next if a process is killed.

    Returns:
        The exit code: 0, or that of the process that failed first.

    Raises:
        RunFailedError: a process was killed from outside.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # the processes print their own errors
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(),
    )
    try:
        elastic_launch(config, sys.executable)("-m", "flowgmm_cli", *arguments)
    except ChildFailedError as error:
        codes = {rank: failure.exitcode for rank, failure in error.failures.items()}
        return _exit_code(codes, error.get_first_failure()[0], processes, hint)
    except SignalException:
        return InterruptedRunError.exit_code
    return 0


def _exit_code(codes: Mapping[int, int], first: int, processes: int, hint: str) -> int:
    """Exit code of the launcher, given those of the failed ranks and the rank that failed first."""
    code = codes[first]
    if code < 0:
        name = signal.Signals(-code).name
        memory = "; this machine may have run out of memory" if name == "SIGKILL" else ""
        raise RunFailedError(f"process {first} of {processes} was ended by {name}{memory}", hint=hint)
    # a process that lost its peers ends with 1; a code of its own says more
    return next((value for _, value in sorted(codes.items()) if value > 1), code)

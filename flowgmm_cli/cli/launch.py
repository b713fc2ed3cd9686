"""`flowgmm train` in several processes: starting them, and the part of all but the main process."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
from flowgmm_cli.messages import quote

if TYPE_CHECKING:
    from flowgmm_cli.recipe.schema import Recipe
    from flowgmm_cli.runs import Run


def launch_training(
    recipe: Recipe,
    run: Run | None,
    run_dir: Path | None,
    processes: int,
    *,
    start: Run | None = None,
    as_json: bool,
) -> None:
    """Create a run of a recipe, or take the one to resume, and start processes that resume it."""
    from flowgmm_cli.cli.output import settings
    from flowgmm_cli.runs import create_run

    is_new = run is None
    if run is None:
        run = create_run(recipe, argv=sys.argv[1:], directory=run_dir, start=start)
    flags = {**{f"--{name}": on for name, on in vars(settings).items()}, "--json": as_json}
    arguments = ["train", "--resume", str(run.path), *(flag for flag, on in flags.items() if on)]
    hint = f"flowgmm train --resume {quote(run.path)} --processes {processes}"
    try:
        code = launch(arguments, processes, hint=hint)
    finally:
        if is_new and not run.checkpoints.exists():  # there is nothing to resume
            shutil.rmtree(run.path)
    if code:
        raise typer.Exit(code)


def launch(arguments: Sequence[str], processes: int, *, hint: str) -> int:
    """Start `processes` processes of `flowgmm` on this machine with torch's elastic launcher, and wait.

    A signal is passed on to all of them. If a process fails, the others are asked to stop. The result is the
    exit code: 0, or that of the process that failed first. `hint` is what to type next if one is killed.

    Raises:
        RunFailedError: a process was killed from outside.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # the processes print their own errors
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP warns if every loss reads all parameters
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id="flowgmm",
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


def assist_training(recipe: Recipe) -> None:
    """Train with the main process, which prints the errors and does the rest of the run."""
    from flowgmm_cli.cli.progress import Progress
    from flowgmm_cli.cli.session import data_context
    from flowgmm_cli.runs import open_run
    from flowgmm_cli.training.callbacks import Interrupt
    from flowgmm_cli.training.distributed import init_process_group
    from flowgmm_cli.training.pipeline import assist

    try:
        with Interrupt() as interrupt, init_process_group(recipe.run.device) as group:
            run = open_run(Path(group.broadcast_text("")))
            assist(run.recipe(), run, data_context(Progress()), interrupt, group)
    except (LostProcessError, RunFailedError) as error:
        raise typer.Exit(error.exit_code) from error
    except (InterruptedRunError, KeyboardInterrupt) as error:
        raise typer.Exit(InterruptedRunError.exit_code) from error
    # a thread of gloo may still free a tensor of Python, and it aborts if the interpreter is ending
    os._exit(0)

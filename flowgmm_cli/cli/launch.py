"""`flowgmm train` in several processes: starting them, and the part of all but the main process."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flowgmm_cli.recipe.schema import Recipe


def launch_training(
    recipe: Recipe | None,
    resume: Path | None,
    run_dir: Path | None,
    processes: int,
    *,
    offline: bool,
    as_json: bool,
) -> None:
    """Create the run, and start processes that resume it.

    Args:
        recipe: recipe of a new run.
        resume: the run to resume instead.
        run_dir: folder of the new run.
        processes: number of processes.
        offline, as_json: flags of the command.
    """
    from flowgmm_cli.cli.output import settings
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.runs import create_run, open_run
    from flowgmm_cli.training.launcher import launch

    if recipe is not None:
        run = create_run(recipe, argv=sys.argv[1:], directory=run_dir)
    elif resume is not None:
        run = open_run(resume.expanduser())
    else:
        raise UsageError("name a recipe, or a run with --resume", hint="flowgmm recipes list")
    flags = {
        "--offline": offline,
        "--json": as_json,
        "--quiet": settings.quiet,
        "--verbose": settings.verbose,
    }
    arguments = ["train", "--resume", str(run.path), *(flag for flag, on in flags.items() if on)]
    hint = f"flowgmm train --resume {run.path} --processes {processes}"
    try:
        code = launch(arguments, processes, hint=hint)
    finally:
        if recipe is not None and not run.checkpoints.exists():  # there is nothing to resume
            shutil.rmtree(run.path)
    if code:
        raise typer.Exit(code)


def assist_training(recipe: Recipe, *, offline: bool) -> None:
    """Train with the main process, which prints the errors and does the rest of the run."""
    from flowgmm_cli.cli.session import data_context
    from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
    from flowgmm_cli.runs import open_run
    from flowgmm_cli.training.callbacks import Interrupt
    from flowgmm_cli.training.distributed import init_process_group
    from flowgmm_cli.training.pipeline import assist

    def silent(done: int, total: int, what: str, detail: str = "") -> None:
        pass

    try:
        with Interrupt() as interrupt, init_process_group(recipe.run.device) as group:
            run = open_run(Path(group.broadcast_text("")))
            context = data_context(silent, offline=offline)
            assist(run.recipe(), run, group, context=context, interrupt=interrupt)
    except (LostProcessError, RunFailedError) as error:
        raise typer.Exit(error.exit_code) from error
    except (InterruptedRunError, KeyboardInterrupt) as error:
        raise typer.Exit(InterruptedRunError.exit_code) from error

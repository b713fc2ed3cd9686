"""Training with several processes: how they are started, and the part of each but the first."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from flowgmm_cli.errors import FlowgmmError
    from flowgmm_cli.recipe.schema import Recipe

_EXIT_DELAY_SECONDS = 2.0  # when one process ends, the launcher may end the others


def start(
    recipe: Recipe | None,
    resume: Path | None,
    run_dir: Path | None,
    processes: int,
    *,
    offline: bool,
    as_json: bool,
) -> None:
    """Create the run and start processes that resume it.

    Args:
        recipe: recipe of a new run.
        resume: run to continue instead.
        run_dir: folder of the new run.
        processes: number of processes.
        offline, as_json: flags of the command.
    """
    from flowgmm_cli.cli.output import settings
    from flowgmm_cli.cli.processes import launch
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.runs import create_run, open_run

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
    words = ["train", "--resume", str(run.path), *(flag for flag, on in flags.items() if on)]
    code = launch(words, processes, hint=f"flowgmm train --resume {run.path} --processes {processes}")
    if code and recipe is not None and not run.checkpoints.exists():  # there is nothing to keep
        shutil.rmtree(run.path)
    if code:
        raise typer.Exit(code)


def follow(recipe: Recipe, *, offline: bool) -> None:
    """Take part in training; the main process does everything after it, and prints."""
    from flowgmm_cli.cli.session import data_context
    from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
    from flowgmm_cli.runs import open_run
    from flowgmm_cli.training.interrupt import Interrupt
    from flowgmm_cli.training.pipeline import assist
    from flowgmm_cli.training.processes import joined

    def silent(done: int, total: int, what: str, detail: str = "") -> None:
        pass

    try:
        with Interrupt() as interrupt, joined(recipe.run.device) as together:
            run = open_run(Path(together.told("")))
            context = data_context(silent, offline=offline)
            assist(run.recipe(), run, together, context=context, interrupt=interrupt)
    except (LostProcessError, RunFailedError) as error:
        exit_silently(error)
    except (InterruptedRunError, KeyboardInterrupt) as error:
        raise typer.Exit(InterruptedRunError.exit_code) from error


def exit_silently(error: FlowgmmError) -> NoReturn:
    """Exit with the code of an error, after the main process has printed it."""
    time.sleep(_EXIT_DELAY_SECONDS)
    raise typer.Exit(error.exit_code) from error

"""Training with several processes, from the command line: who starts them, and who helps the leader."""

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

_LEADERS_TURN = 2.0  # seconds; as soon as one process ends, whoever started them may end them all


def start(
    recipe: Recipe | None,
    resume: Path | None,
    run_dir: Path | None,
    processes: int,
    *,
    offline: bool,
    as_json: bool,
) -> None:
    """Make the run, and let processes carry it out that go on with it as with any other.

    Args:
        recipe: of a new run.
        resume: the run to go on with, instead.
        run_dir: where the new one is to be.
        processes: how many.
        offline, as_json: flags of the command.
    """
    from flowgmm_cli.cli.console import settings
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
    """Train with the leader to the end of training; the rest, and the telling, it does alone."""
    from flowgmm_cli.cli.work import data_context
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
        leave_the_telling(error)
    except (InterruptedRunError, KeyboardInterrupt) as error:
        raise typer.Exit(InterruptedRunError.exit_code) from error


def leave_the_telling(error: FlowgmmError) -> NoReturn:
    """End with an error of which the leader tells, and not before it has."""
    time.sleep(_LEADERS_TURN)
    raise typer.Exit(error.exit_code) from error

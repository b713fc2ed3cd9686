"""`flowgmm train`: from a recipe to a trained, calibrated and tested run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli.launch import follow, leave_the_telling, start
from flowgmm_cli.cli.options import Json, Offline, Overlay, Overrides, PluginModule, Quiet, Verbose

if TYPE_CHECKING:
    from flowgmm_cli.recipe.schema import Recipe
    from flowgmm_cli.runs import Run
    from flowgmm_cli.training.pipeline import TrainResult
    from flowgmm_cli.training.search import Race

SCHEMA = "flowgmm/train/1"
_CPU = "cpu"


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(metavar="[RECIPE]", help="A recipe file, or the name of a bundled recipe."),
    ] = None,
    overrides: Overrides = None,
    overlay: Overlay = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", metavar="RUN", help="Go on with this run; needs no recipe."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="Write the run to exactly this folder.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="The same as run.seed=N.")] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="auto, cpu, cuda or mps; the same as run.device=NAME.")
    ] = None,
    auto: Annotated[
        bool | None,
        typer.Option(
            "--auto/--no-auto",
            help="Let settings compete before training, judged by the labelled rows alone; recipes for data "
            "of your own do so by default.",
            show_default=False,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            "--processes",
            metavar="N",
            min=1,
            help="Train with so many processes on this machine: a GPU each, or a part of the cores. For "
            "several machines there are torchrun and accelerate launch, with `-m flowgmm_cli train ...`.",
        ),
    ] = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Read the data, build everything and take one step; keep nothing."),
    ] = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Train a model from a recipe, calibrate it and test it.

    Examples: flowgmm train digits · flowgmm train my.yaml data.path=my.csv train.epochs=5 ·
    flowgmm train my.yaml --overlay cpu train.epochs=3 ·
    flowgmm train --resume runs/digits/20261122-101500-3f9a · flowgmm train ag_news --processes 4
    """
    import sys

    from flowgmm_cli.cli import console
    from flowgmm_cli.cli.work import data_context
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.training.ranks import follows, several

    words = list(overrides or [])
    words += [f"run.seed={seed}"] if seed is not None else []
    words += [f"run.device={device}"] if device is not None else []
    words += ["search=null"] if auto is False else []
    if resume is not None and (recipe or words or overlay or run_dir or dry_run or auto is not None):
        raise UsageError(
            "--resume takes a run and nothing else: a run goes on with the recipe it began with",
            hint=f"flowgmm train --resume {resume}",
        )
    if resume is None and recipe is None:
        raise UsageError("name a recipe, or a run with --resume", hint="flowgmm recipes list")
    if dry_run and (processes > 1 or several()):
        raise UsageError("--dry-run takes one step in one process", hint="leave out --processes")

    if follows():
        console.settings.quiet = True  # the leader tells

    loaded = None
    if recipe is not None:
        # a mistake in it is found before torch is imported
        loaded = _load(recipe, words, overlay or [], auto=bool(auto))
        for line in loaded.origin.notes:
            console.note(line)
    if processes > 1 and not several():
        start(loaded, resume, run_dir, processes, offline=offline, as_json=as_json)
        return
    console.note("loading torch…")

    from flowgmm_cli.devices import find_device
    from flowgmm_cli.runs import create_run, open_run
    from flowgmm_cli.training.interrupt import Interrupt
    from flowgmm_cli.training.processes import joined

    if resume is not None:
        run = open_run(resume.expanduser())
        loaded = run.recipe()
    if loaded is None:
        raise ValueError("there is neither a recipe nor a run")
    if follows():
        follow(loaded, offline=offline)
        return

    with Interrupt() as interrupt, console.progress() as progress, joined(loaded.run.device) as together:
        place = find_device(loaded.run.device)  # before anything is written
        if place.type == "cpu" and _CPU in loaded.overlays and not loaded.origin.overlays:
            console.note(f"this recipe is meant for a GPU; `--overlay {_CPU}` has settings for this machine")
        context = data_context(progress, offline=offline)
        if dry_run:
            _dry_run(loaded, context, progress, as_json=as_json)
            return
        if resume is None:
            run = create_run(loaded, argv=sys.argv[1:], directory=run_dir)
        together.told(str(run.path.absolute()))
        result = _carry_out(loaded, run, context, progress, interrupt, together, new=resume is None)
        _write_card(run, context)
    _show(run, result, as_json=as_json)


def _load(recipe: str, words: list[str], overlays: list[str], *, auto: bool) -> Recipe:
    from flowgmm_cli.errors import FlowgmmError
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.training.ranks import follows

    try:
        loaded = load_recipe(recipe, words, overlays=overlays)
        if auto and loaded.search is None:
            loaded = load_recipe(recipe, [*words, "search={}"], overlays=loaded.origin.overlays)
    except FlowgmmError as error:
        if follows():
            leave_the_telling(error)
        raise
    return loaded


def _carry_out(
    recipe: Any, run: Run, context: Any, progress: Any, interrupt: Any, together: Any, *, new: bool
) -> TrainResult:
    import shutil

    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import FlowgmmError, InterruptedRunError
    from flowgmm_cli.training.fitting import Talk
    from flowgmm_cli.training.pipeline import train as carry_out

    resume = f"flowgmm train --resume {run.path}"
    resume += "" if together.alone else f" --processes {together.count}"
    try:
        return carry_out(
            recipe,
            run,
            context=context,
            talk=Talk(progress=progress, note=console.note),
            interrupt=interrupt,
            processes=together,
        )
    except InterruptedRunError as error:
        raise InterruptedRunError(error.message, hint=resume) from error
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped by you; what was saved is kept", hint=resume) from None
    except OSError as error:
        raise _full_disk(error, resume) from error
    except FlowgmmError:
        if new and not run.checkpoints.exists():  # its rows could not be read: there is nothing to keep
            shutil.rmtree(run.path)
        raise


def _write_card(run: Run, context: Any) -> None:
    """Write the model card; the run is done and good, so nothing that goes wrong here may make it fail."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.report.card import write_card
    from flowgmm_cli.report.context import load_report_context

    try:
        write_card(load_report_context(run, context=context))
    except Exception as error:
        console.warn(f"the model card cannot be written ({type(error).__name__}: {error})")


def _full_disk(error: OSError, resume: str) -> Exception:
    import errno

    from flowgmm_cli.errors import RunFailedError

    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error
    what = "a file would be too large" if error.errno == errno.EFBIG else "the disk is full"
    return RunFailedError(
        f"{what} ({error.filename or 'in the run directory'}); the last checkpoint is intact",
        hint=f"make room, then: {resume}",
    )


def _dry_run(recipe: Recipe, context: Any, progress: Any, *, as_json: bool) -> None:
    from flowgmm_cli.cli import console
    from flowgmm_cli.training.dry_run import dry_run
    from flowgmm_cli.training.fitting import Talk

    terms = dry_run(recipe, context=context, talk=Talk(progress=progress, note=console.note))
    if as_json:
        console.print_json({"schema": "flowgmm/dry-run/1", "terms": terms})
        return
    console.print_table(["term", "value"], [[name, f"{value:.4f}"] for name, value in terms.items()])
    console.note("one step was taken and nothing was kept")


def _show(run: Run, result: TrainResult, *, as_json: bool) -> None:
    from flowgmm_cli.cli import console

    test = result.test
    if as_json:
        console.print_json(
            {
                "schema": SCHEMA,
                "run": str(run.path),
                "status": "done",
                "seconds": round(result.seconds, 3),
                "epochs": result.epochs,
                "best": {"metric": result.metric, "value": result.best},
                "test": test.metrics() if test else None,
                "calibration": result.calibration.to_dict(),
                "search": result.race.summary() if result.race else None,
            }
        )
        return
    if result.race:
        _show_race(result.race)
    if test:
        n = test.classification.n
        accuracy = test.classification.intervals["accuracy"]
        rows = [
            ["accuracy", f"{test.classification.accuracy:.4f}", f"{accuracy.low:.4f} to {accuracy.high:.4f}"],
            ["balanced accuracy", f"{test.classification.balanced_accuracy:.4f}", ""],
            ["macro F1", f"{test.classification.macro_f1:.4f}", ""],
            ["NLL", f"{test.classification.nll:.4f}", ""],
            ["ECE", f"{test.classification.ece:.4f}", ""],
        ]
        console.print_table(
            ["test", "value", "95 % interval"],
            rows,
            right=["value"],
            title=f"{run.path}: {n:,} test rows",
        )
    else:
        console.print_text(str(run.path))
        console.note("no test rows, so nothing was tested")
    found = result.calibration
    console.note(f"temperature {found.temperature:.2f}, label noise {found.noise:.1%} ({_origin(result)})")
    console.note(f"done in {result.seconds:.1f} s")
    console.note(f"next: flowgmm eval {run.path} --baselines")


def _show_race(race: Race) -> None:
    from flowgmm_cli.cli import console

    kept = {one.name for one in race.kept}
    console.print_table(
        ["candidate", "NLL", "accuracy", "agreement", "density", "score", ""],
        [
            [one.name]
            + [f"{v:.3f}" for v in (one.nll, one.accuracy, one.agreement, one.density, one.score)]
            + ["kept" if one.name in kept else ""]
            for one in race.results
        ],
        right=["NLL", "accuracy", "agreement", "density", "score"],
        title="search, on labels that the training did not see",
    )
    console.print_text("")


def _origin(result: TrainResult) -> str:
    found = result.calibration
    return {
        "val": f"fitted on {found.rows:,} validation labels",
        "cross_fit": f"cross-fitted on the {found.rows:,} labelled rows",
        "training": "that of training: too few labels to fit one",
        "none": "not calibrated",
    }[found.method]

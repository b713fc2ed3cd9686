"""`flowgmm train`: train a model from a recipe, calibrate it and test it."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.launch import assist_training, launch_training
from flowgmm_cli.cli.session import data_context, print_warnings, write_model_card
from flowgmm_cli.errors import (
    FlowgmmError,
    InterruptedRunError,
    RunFailedError,
    UsageError,
    describe_full_disk,
)
from flowgmm_cli.formatting import format_duration
from flowgmm_cli.messages import quote

if TYPE_CHECKING:
    from flowgmm_cli.cli.progress import Progress
    from flowgmm_cli.evaluation.metrics import Evaluation
    from flowgmm_cli.recipe.schema import Recipe
    from flowgmm_cli.runs import Run
    from flowgmm_cli.training.distributed import Distributed
    from flowgmm_cli.training.pipeline import TrainResult
    from flowgmm_cli.training.search import SearchResult

SCHEMA = "flowgmm/train/1"
_MAX_COMPARED_LABELS = 500  # labelled rows with which a training ends with the verdict beside simple methods
_MAX_COMPARED_CELLS = 1_000_000  # training rows * features, likewise


RecipeArgument = Annotated[
    str | None, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a bundled recipe.")
]
ResumeRun = Annotated[Path | None, options.option("--resume RUN", "Continue this run; needs no recipe.")]
FromRun = Annotated[
    str | None,
    options.option(
        "--from RUN",
        "Go on from this finished run with more labels, rows or classes: its weights, preprocessing and "
        "settings of a search, a fifth of the epochs.",
    ),
]
RunDir = Annotated[Path | None, options.option("--run-dir", "Write the run to exactly this folder.")]
Seed = Annotated[int | None, options.option("--seed", "The same as run.seed=N.")]
TrainDevice = Annotated[
    str | None, options.option("--device", "auto, cpu, cuda or mps; the same as run.device=NAME.")
]
Auto = Annotated[
    bool | None,
    options.option(
        "--auto/--no-auto",
        "Search settings first, by cross-validation on labelled rows: recipes for your own data do.",
    ),
]
TrainProcesses = Annotated[
    int,
    options.option(
        "--processes N",
        "Number of processes on this machine, with a GPU or a share of the cores each. For several "
        "machines use torchrun or accelerate launch with `-m flowgmm_cli train ...`.",
        min=1,
    ),
]
DryRun = Annotated[
    bool, options.option("--dry-run", "Read the data, build the model and take one step; write nothing.")
]


def train(
    recipe: RecipeArgument = None,
    overrides: options.Overrides = None,
    overlay: options.Overlay = None,
    resume: ResumeRun = None,
    from_: FromRun = None,
    run_dir: RunDir = None,
    seed: Seed = None,
    device: TrainDevice = None,
    auto: Auto = None,
    processes: TrainProcesses = 1,
    dry_run: DryRun = False,
    as_json: options.Json = False,
) -> None:
    """Train a model from a recipe, calibrate it and test it.

    Examples: flowgmm train digits · flowgmm train my.yaml data.path=my.csv train.epochs=5 ·
    flowgmm train my.yaml --overlay cpu train.epochs=3 ·
    flowgmm train --resume runs/digits/20261122-101500-3f9a · flowgmm train ag_news --processes 4 ·
    flowgmm train my.yaml --from runs/my/latest
    """
    from flowgmm_cli.processes import is_main_process, world_size
    from flowgmm_cli.report.trackers import require_trackers
    from flowgmm_cli.runs import find_run, open_run

    words = list(overrides or [])
    words += [f"run.seed={seed}"] if seed is not None else []
    words += [f"run.device={device}"] if device is not None else []
    words += ["search=null"] if auto is False else []
    others = recipe, words, overlay, run_dir, dry_run, from_, auto is not None
    if resume is not None and any(others):
        raise UsageError(
            "--resume takes a run and nothing else: a run is continued with its own recipe",
            hint=f"flowgmm train --resume {quote(resume)}",
        )
    if dry_run and (processes > 1 or world_size() > 1):
        raise UsageError("--dry-run takes one step in one process", hint="leave out --processes")

    if not is_main_process():
        output.settings.quiet = True

    run = start = None
    if resume is not None:
        run = open_run(resume.expanduser())
        loaded = run.recipe()
    elif recipe is not None:  # a mistake in it is found before torch is imported
        loaded = _load(recipe, words, overlay or [], auto=bool(auto))
        for line in loaded.origin.notes:
            output.note(line)
        if from_ is not None:
            start = find_run(from_, note=output.note, offline=output.settings.offline)[0]
            start.require_finished()
    else:
        hint = f"flowgmm train RECIPE --from {quote(from_)}" if from_ else "flowgmm recipes list"
        raise UsageError("name a recipe, or a run with --resume", hint=hint)
    require_trackers(loaded)
    if processes > 1 and world_size() == 1:
        launch_training(loaded, run, run_dir, processes, start=start, as_json=as_json)
        return
    output.note("loading torch…")
    if not is_main_process():
        assist_training(loaded)
    elif dry_run:
        _dry_run(loaded, start, as_json=as_json)
    else:
        _train(loaded, run, run_dir, start=start, as_json=as_json)


def _load(recipe: str, words: list[str], overlays: list[str], *, auto: bool) -> Recipe:
    from flowgmm_cli.recipe.load import load_recipe

    loaded = load_recipe(recipe, words, overlays=overlays)
    if auto and loaded.search is None:
        loaded = load_recipe(recipe, [*words, "search={}"], overlays=loaded.origin.overlays)
    return loaded


def _train(
    recipe: Recipe, run: Run | None, run_dir: Path | None, *, start: Run | None, as_json: bool
) -> None:
    """Train a new run, perhaps from the model of another, or resume one, and print its results."""
    from flowgmm_cli.report.context import ReportContext
    from flowgmm_cli.report.trackers import Trackers
    from flowgmm_cli.runs import create_run
    from flowgmm_cli.training.callbacks import Callbacks, Interrupt
    from flowgmm_cli.training.distributed import init_process_group

    device = recipe.run.device
    with Interrupt() as interrupt, output.progress() as progress, init_process_group(device) as group:
        _check_device(recipe)
        context = data_context(progress)
        new = run is None
        run = run or create_run(recipe, argv=sys.argv[1:], directory=run_dir, start=start)
        group.broadcast_text(str(run.path.absolute()))
        callbacks = Callbacks(progress=progress, note=output.note, overall=progress.overall)
        work = {"context": context, "callbacks": callbacks, "interrupt": interrupt}
        with Trackers(run, offline=output.settings.offline, warn=output.warn) as trackers:
            result = _run_training(recipe, run, new=new, group=group, **work)
            if _is_comparison_cheap(run, result):
                result = _compare_with_baselines(run, result, context, progress)
            write_model_card(run, context)
            trackers.send_results(ReportContext(run, context, output.warn))
    _print_result(run, result, recipe, as_json=as_json)


def _is_comparison_cheap(run: Run, result: TrainResult) -> bool:
    """Return True if the baselines take a few seconds, about a tenth of a training with a search."""
    rows = run.info().get("rows") or {}
    cells = int(rows.get("train", 0)) * result.trained.preprocessor.dim
    few = rows.get("labelled", 0) <= _MAX_COMPARED_LABELS and cells <= _MAX_COMPARED_CELLS
    return bool(result.search and result.results and few)


def _compare_with_baselines(run: Run, result: TrainResult, context: Any, progress: Progress) -> TrainResult:
    """Add the baselines and the verdict; the run is finished, so an error here is only a warning."""
    from flowgmm_cli.inference.evaluate_run import evaluate_run

    try:
        work: dict[str, Any] = {"context": context, "progress": progress, "warn": output.warn}
        return dataclasses.replace(
            result, results=evaluate_run(run, split="test", with_baselines=True, **work)
        )
    except Exception as error:
        output.warn(f"the baselines cannot be fitted ({type(error).__name__}: {error})")
        return result


def _check_device(recipe: Recipe) -> None:
    """Raise `UsageError` for a missing device; a note names the overlay for machines without a GPU."""
    from flowgmm_cli.devices import find_device

    device = find_device(recipe.run.device)
    if device.type == "cpu" and "cpu" in recipe.overlays and not recipe.origin.overlays:
        output.note("this recipe is meant for a GPU; `--overlay cpu` has settings for this machine")


def _run_training(recipe: Recipe, run: Run, *, new: bool, group: Distributed, **work: Any) -> TrainResult:
    """Train, and explain errors; the folder of a run that read no data is removed."""
    from flowgmm_cli.training.pipeline import train as train_run

    resume = f"flowgmm train --resume {quote(run.path)}"
    resume += "" if group.world_size == 1 else f" --processes {group.world_size}"
    try:
        return train_run(recipe, run, group=group, **work)
    except InterruptedRunError as error:
        raise InterruptedRunError(error.message, hint=resume) from error
    except KeyboardInterrupt:
        raise InterruptedRunError(f"stopped by you; {_describe_checkpoint(run)}", hint=resume) from None
    except OSError as error:
        if (full := describe_full_disk(error)) is None:
            raise
        raise RunFailedError(
            f"{full}; {_describe_checkpoint(run)}", hint=f"make room, then: {resume}"
        ) from error
    except FlowgmmError:
        if new and not run.checkpoints.exists():  # its data could not be read
            shutil.rmtree(run.path)
        raise


def _describe_checkpoint(run: Run) -> str:
    saved = any(run.path.rglob("last.safetensors"))
    return "the last checkpoint is intact" if saved else "there is no checkpoint yet"


def _dry_run(recipe: Recipe, start: Run | None, *, as_json: bool) -> None:
    from flowgmm_cli.training.callbacks import Callbacks, Interrupt
    from flowgmm_cli.training.pipeline import dry_run

    with Interrupt(), output.progress() as progress:
        _check_device(recipe)
        context = data_context(progress)
        callbacks = Callbacks(progress=progress, note=output.note)
        terms = dry_run(recipe, context=context, callbacks=callbacks, start=start)
    if as_json:
        output.print_json({"schema": "flowgmm/dry-run/1", "terms": terms})
        return
    output.print_table(["term", "value"], [[name, f"{value:.4f}"] for name, value in terms.items()])
    output.note("one step was taken and nothing was kept")


def _print_result(run: Run, result: TrainResult, recipe: Recipe, *, as_json: bool) -> None:
    from flowgmm_cli.evaluation.unknown_rows import UnknownRows
    from flowgmm_cli.experiments.experiment import find_forecasts

    warnings, forecasts = print_warnings(result.warnings), find_forecasts(recipe)
    if as_json:
        output.print_json({**_to_dict(run, result), "forecasts": forecasts, "warnings": warnings})
        return
    if result.search:
        _print_search(result.search)
    if result.results:
        _print_metrics(str(run.path), result.results)
    else:
        output.print_exact(str(run.path))
        output.note("no label was held out, neither for a test nor in folds, so nothing was tested")
    output.print_text(*forecasts)
    if unknown := UnknownRows.measure(result.trained.facts["unknown"]):
        output.print_text(f"{unknown.describe()}; see `flowgmm discover`")
    calibration = result.calibration
    origin = {
        "val": f"fitted on {calibration.rows:,} validation labels",
        "cross_fit": f"cross-fitted on the {calibration.rows:,} labelled rows",
        "training": "as in training: too few labels to fit it",
        "none": "not calibrated",
    }[calibration.method]
    limit = 1000  # beyond it, classes are equally probable
    temperature = f"{calibration.temperature:.2f}" if calibration.temperature < limit else f"over {limit:,}"
    output.note(f"temperature {temperature}, label noise {calibration.noise:.1%} ({origin})")
    output.note(f"done in {format_duration(result.seconds)}")
    command, flags = ("report", "") if result.results and result.results.verdict else ("eval", " --baselines")
    output.note(f"next: flowgmm {command} {quote(run.path)}{flags}")


def _print_metrics(run: str, results: Evaluation) -> None:
    """Print the metrics on test rows, or else on cross-fitted rows, and the accuracy on the latter."""
    from flowgmm_cli.report.text import describe_cross_fitted

    metrics, kind = results.classification, results.split.replace("_", "-")
    interval = metrics.intervals["accuracy"]
    rows = [
        ["accuracy", f"{metrics.accuracy:.4f}", f"{interval.low:.4f} to {interval.high:.4f}"],
        ["balanced accuracy", f"{metrics.balanced_accuracy:.4f}", ""],
        ["macro F1", f"{metrics.macro_f1:.4f}", ""],
        ["NLL", f"{metrics.nll:.4f}", ""],
        ["ECE", f"{metrics.ece:.4f}", ""],
    ]
    title = f"{run}: {metrics.n:,} {kind} rows"
    output.print_table([kind, "value", "95 % interval"], rows, right=["value"], title=title)
    if averages := metrics.describe_averages():
        output.note(f"classes {averages}")
    if results.cross_fitted:
        output.print_text(describe_cross_fitted(results.cross_fitted))
    if results.verdict:
        output.print_text(results.verdict.text)


def _to_dict(run: Run, result: TrainResult) -> dict[str, Any]:
    values = result.results.to_dict(str(run.path)) if result.results else None
    return {
        "schema": SCHEMA,
        "run": str(run.path),
        "status": "done",
        "seconds": round(result.seconds, 3),
        "epochs": result.first.epochs,
        "best": {"metric": result.first.metric, "value": result.first.progress.best},
        "test": result.test.metrics() if result.test else None,
        "cross_fitted": values["cross_fitted"] if values else None,
        "verdict": values["verdict"] if values else None,
        "calibration": result.calibration.to_dict(),
        "unknown": result.trained.facts["unknown"],
        "search": result.search.summary() if result.search else None,
    }


def _print_search(search: SearchResult) -> None:
    kept, rows = {result.name for result in search.kept}, []
    numbers = ["NLL", "accuracy", "agreement", "density", "score"]
    for r in search.results:
        cells = [f"{value:.3f}" for value in (r.nll, r.accuracy, r.agreement, r.density, r.score)]
        rows.append([r.name, *cells, "kept" if r.name in kept else ""])
    title = "search, on labels that the training did not use"
    output.print_table(["candidate", *numbers, ""], rows, right=numbers, title=title)
    if gain := search.describe_gain():
        output.print_text(gain)
    output.print_text("")

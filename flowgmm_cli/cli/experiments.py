"""`flowgmm curve` and `flowgmm sweep`: many runs of one recipe, with other labels, seeds or settings."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.session import data_context
from flowgmm_cli.errors import InterruptedRunError, RunFailedError
from flowgmm_cli.formatting import format_duration, method_name, pluralise

if TYPE_CHECKING:
    from flowgmm_cli.experiments.points import Point


def curve(
    recipe: options.RecipeName,
    overrides: options.Overrides = None,
    overlay: options.Overlay = None,
    labels: Annotated[
        str, options.option("--labels N,...", "Numbers of labelled rows, such as 20,50,100.")
    ] = "20,50,100,200",
    seeds: options.Seeds = "0..4",
    baselines: Annotated[
        bool, options.option("--baselines/--no-baselines", "Fit eight simple methods on the same vectors.")
    ] = True,
    choose: Annotated[
        str | None,
        options.option(
            "--choose suggest,random",
            "Choose labelled rows as `flowgmm suggest` does, or at random; default: at random, as many of "
            "each class.",
        ),
    ] = None,
    out: options.ExperimentFolder = None,
    as_json: options.Json = False,
) -> None:
    """Accuracy against the number of labels, with its spread over seeds, beside simple baselines.

    A forecast says what some more labels would bring. Points that are already in the folder are not trained
    again.

    Examples: flowgmm curve digits --labels 20,50,100,200 --seeds 0..4 ·
    flowgmm curve my.yaml data.path=my.csv --labels 50,500 --no-baselines ·
    flowgmm curve digits --labels 10,20,50 --choose suggest,random
    """
    from flowgmm_cli.experiments.points import curve_points, parse_choices, parse_integers

    words = list(overrides or [])
    counts, draws = parse_integers(labels, "--labels", minimum=2), parse_integers(seeds, "--seeds")
    choices = parse_choices(choose)
    folder = out.expanduser() if out else None
    points = curve_points(recipe, words, counts, draws, overlays=overlay or (), choose=choices, folder=folder)
    for line in points[0].recipe.origin.notes:
        output.note(line)
    settings = {"keys": ["labels", *(["choose"] if choices else [])], "overrides": words}
    values = _run_points("curve", points, out, settings, baselines=baselines)
    _print_values("curve", values, as_json=as_json)


def sweep(
    recipe: options.RecipeName,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE,...",
            help="Changes to the recipe; several values, separated by commas, are tried one by one.",
        ),
    ],
    overlay: options.Overlay = None,
    seeds: options.Seeds = "0..2",
    out: options.ExperimentFolder = None,
    as_json: options.Json = False,
) -> None:
    """Train every combination of some settings, each with every seed, and rank them.

    A value that contains a comma needs quotes or brackets. All combinations are validated before the first
    one is trained; those that are already in the folder are not trained again.

    Examples: flowgmm sweep digits flow.couplings=2,4,6 train.lr=1e-3,3e-3 --seeds 0..2 ·
    flowgmm sweep csv data.path=my.csv data.label=y search=null prior.means=labelled,logistic_regression
    """
    from flowgmm_cli.experiments.points import parse_integers, read_grid, sweep_points

    grid, draws = read_grid(words), parse_integers(seeds, "--seeds")
    points = sweep_points(recipe, grid, draws, overlays=overlay or ())
    for line in dict.fromkeys(line for point in points for line in point.recipe.origin.notes):
        output.note(line)
    output.note(f"{len(grid):,} combinations, {len(points):,} runs")
    settings = {"keys": list(grid.axes), "overrides": grid.fixed}
    values = _run_points("sweep", points, out, settings, baselines=False)
    _print_values("sweep", values, as_json=as_json)


def _run_points(
    kind: str, points: Sequence[Point], out: Path | None, settings: Mapping[str, Any], *, baselines: bool
) -> dict[str, Any]:
    """Train the points that are not finished and write the results after each; return the last results.

    Raises:
        InterruptedRunError: stopped by the user; finished points are kept.
        RunFailedError: one or more runs failed; the others were trained.
    """
    output.note("loading torch…")

    from flowgmm_cli.experiments import outputs
    from flowgmm_cli.experiments.experiment import Experiment, RunOptions
    from flowgmm_cli.experiments.points import check_data
    from flowgmm_cli.training.callbacks import Callbacks, Interrupt

    first = points[0].recipe
    folder = (out or Path(f"{kind}s", first.name)).expanduser()
    experiment = Experiment(folder, kind=kind, recipe=first, **settings)
    write = outputs.write_curve if kind == "curve" else outputs.write_sweep
    experiment.check(points)
    pending = [point for point in points if not experiment.is_finished(point, baselines=baselines)]
    if len(pending) < len(points):
        output.note(f"{len(points) - len(pending):,} of {len(points):,} points are there already")
    failures: list[str] = []
    command = shlex.join(["flowgmm", *sys.argv[1:]])
    try:
        with Interrupt() as interrupt, output.progress() as progress:
            context = data_context(progress)
            check_data(pending, context)
            experiment.open(points)
            run_options = RunOptions(
                context=context,
                callbacks=Callbacks(progress=progress, note=output.debug),
                interrupt=interrupt,
                baselines=baselines,
                argv=sys.argv[1:],
            )
            start = time.monotonic()
            for index, point in enumerate(pending):
                left = (time.monotonic() - start) / index * (len(pending) - index) if index else None
                title = f"run {index + 1} of {len(pending)}: {point.describe()}"
                progress.overall(index / len(pending), title, left)
                try:
                    result = experiment.run_point(point, run_options)
                except RunFailedError as error:
                    failures.append(f"{point.describe()}: {error.message}")
                    output.warn(failures[-1])
                    continue
                write(experiment, experiment.read_results())
                accuracy, seconds = (result.methods["flowgmm"][key] for key in ("accuracy", "seconds"))
                output.note(f"{point.describe()}: accuracy {accuracy:.4f} ({format_duration(seconds)})")
            if pending:
                progress.overall(1.0, pluralise(len(pending), "run"), 0.0)
    except InterruptedRunError as error:
        raise InterruptedRunError(f"{error.message}; finished points are kept", hint=command) from error
    except KeyboardInterrupt:
        raise InterruptedRunError("stopped by you; finished points are kept", hint=command) from None
    values = write(experiment, experiment.read_results())
    if failures:
        reason = f"{len(failures):,} of {len(points):,} runs failed; the others are in {experiment.folder}"
        raise RunFailedError(reason, details=failures, hint=f"to try them again: {command}")
    return values


def _print_values(kind: str, values: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(values)
    else:
        (_print_curve if kind == "curve" else _print_sweep)(values)
    for suffix in ("csv", "json", "png"):
        output.note(f"written {Path(values['folder'], kind)}.{suffix}")


def _print_curve(values: Mapping[str, Any]) -> None:
    from flowgmm_cli.report.text import read_forecasts

    points: Sequence[Mapping[str, Any]] = values["points"]
    counts, choices = values["labels"], list(dict.fromkeys(point.get("choose") for point in points))
    by_key = {(point["labels"], point.get("choose"), point["method"]): point for point in points}
    rows = []
    for point in (point for point in points if point["method"] == "flowgmm"):
        numbers = [f"{point[name]['mean']:.3f}" for name in ("nll", "ece")]
        chosen = [point["choose"]] if "choose" in point else []
        cells = [f"{point['labels']:,}", *chosen, point["accuracy"]["n"], _accuracy(point), *numbers]
        rows.append([*cells, f"{point['seconds']['mean']:.0f}"])
    chosen = [] if choices == [None] else ["chosen"]
    columns = ["labels", *chosen, "seeds", "flowgmm", "NLL", "ECE", "seconds"]
    title = f"{values['folder']}: {values['measure']}, mean ± standard deviation over seeds"
    output.print_table(columns, rows, right=columns, title=title)
    methods = list(dict.fromkeys((point["method"], point.get("choose")) for point in points))
    if any(name != "flowgmm" for name, _ in methods):
        rows = [
            [method_name(name), *([choice] if chosen else [])]
            + [_accuracy(by_key.get((count, choice, name))) for count in counts]
            for name, choice in methods
        ]
        columns = [pluralise(count, "label") for count in counts]
        output.print_text("")
        output.print_table(["method", *chosen, *columns], rows, right=columns)
    for line in read_forecasts(Path(values["folder"])):
        output.print_text("", line)


def _print_sweep(values: Mapping[str, Any]) -> None:
    groups: Sequence[Mapping[str, Any]] = values["combinations"]
    keys = list(dict.fromkeys(key for group in groups for key in group["settings"]))
    metrics = list(dict.fromkeys(group["criterion"]["metric"] for group in groups if group["criterion"]))
    rows = []
    for group in groups:
        accuracy, criterion = group["accuracy"], group["criterion"]
        row = [*(group["settings"].get(key, "") for key in keys), accuracy["n"], _accuracy(group)]
        row.append(f"{accuracy['min']:.4f} to {accuracy['max']:.4f}")
        row += [f"{group[name]['mean']:.3f}" for name in ("nll", "ece")]
        for metric in metrics:
            has_metric = criterion and criterion["metric"] == metric
            row.append(f"{criterion['mean']:.4f}" if has_metric else "")
        rows.append([*row, f"{group['seconds']['mean']:.0f}"])
    right = ["seeds", values["measure"], "least to most", "NLL", "ECE", *metrics, "seconds"]
    title = f"{values['folder']}: {values['note']}"
    optional = ["least to most", "ECE", "seconds", *metrics]
    output.print_table([*keys, *right], rows, right=right, title=title, optional=optional)


def _accuracy(point: Mapping[str, Any] | None) -> str:
    return f"{point['accuracy']['mean']:.4f} ±{point['accuracy']['sd']:.4f}" if point else ""

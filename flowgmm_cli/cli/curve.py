"""`flowgmm curve`: test accuracy against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flowgmm_cli.cli.options import (
    Json,
    Offline,
    Overlay,
    Overrides,
    PluginModule,
    Quiet,
    RecipeName,
    Verbose,
)


def curve(
    recipe: RecipeName,
    overrides: Overrides = None,
    overlay: Overlay = None,
    labels: Annotated[
        str, typer.Option("--labels", metavar="N,...", help="Numbers of labelled rows, such as 20,50,100.")
    ] = "20,50,100,200",
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="A..B",
            help="Draws of labels and start, such as 0..4 or 0,2; the test rows stay.",
        ),
    ] = "0..4",
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines/--no-baselines", help="Fit five simple methods on the same vectors and labels."
        ),
    ] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the results and runs; default: curves/RECIPE."),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Accuracy against the number of labels, with its spread over seeds, beside simple baselines.

    Points that are in the folder already are not trained again.

    Examples: flowgmm curve digits --labels 20,50,100,200 --seeds 0..4 ·
    flowgmm curve my.yaml data.path=my.csv --labels 50,500 --no-baselines
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.experiments.grid import parse_integers
    from flowgmm_cli.experiments.points import curve_points

    words = list(overrides or [])
    counts, draws = parse_integers(labels, "--labels", minimum=2), parse_integers(seeds, "--seeds")
    points = curve_points(recipe, words, counts, draws, overlays=overlay or ())
    for line in points[0].recipe.origin.notes:
        console.note(line)
    console.note("loading torch…")

    from flowgmm_cli.cli.studying import carry_out
    from flowgmm_cli.experiments.experiment import Experiment
    from flowgmm_cli.experiments.outputs import write_curve

    first = points[0].recipe
    folder = (out or Path("curves", first.name)).expanduser()
    experiment = Experiment(folder, kind="curve", recipe=first, keys=["labels"], overrides=words)
    value = carry_out(experiment, points, write_curve, baselines=baselines, offline=offline)
    if as_json:
        console.print_json(value)
    else:
        _show(value)
    for file in ("curve.csv", "curve.json", "curve.png"):
        console.note(f"written {folder / file}")


def _show(value: Mapping[str, Any]) -> None:
    from flowgmm_cli.cli import console

    points: Sequence[Mapping[str, Any]] = value["points"]
    methods = list(dict.fromkeys(point["method"] for point in points))
    by_place = {(point["labels"], point["method"]): point for point in points}
    rows = []
    for count in value["labels"]:
        ours = by_place[count, "flowgmm"]
        cells = [_cell(by_place.get((count, method))) for method in methods]
        rest = [f"{ours[name]['mean']:.3f}" for name in ("nll", "ece")]
        rows.append([f"{count:,}", ours["accuracy"]["n"], *cells, *rest, f"{ours['seconds']['mean']:.0f}"])
    names = [method.replace("_", " ") for method in methods]
    columns = ["labels", "seeds", *names, "NLL", "ECE", "seconds"]
    title = f"{value['folder']}: test accuracy, mean ± standard deviation over seeds"
    console.print_table(columns, rows, right=columns, title=title)
    console.note("NLL, ECE and seconds are those of flowgmm")


def _cell(point: Mapping[str, Any] | None) -> str:
    if point is None:
        return ""
    accuracy = point["accuracy"]
    return f"{accuracy['mean']:.4f} ±{accuracy['sd']:.4f}"

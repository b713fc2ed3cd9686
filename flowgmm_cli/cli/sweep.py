"""`flowgmm sweep`: every combination of some settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flowgmm_cli.cli.options import Json, Offline, Overlay, PluginModule, Quiet, RecipeName, Verbose


def sweep(
    recipe: RecipeName,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE,...",
            help="Overrides; of several values separated by commas each is tried.",
            show_default=False,
        ),
    ],
    overlay: Overlay = None,
    seeds: Annotated[
        str,
        typer.Option(
            "--seeds",
            metavar="A..B",
            help="Draws of labels and start, such as 0..2 or 0,2; the test rows stay.",
        ),
    ] = "0..2",
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the results and runs; default: sweeps/RECIPE."),
    ] = None,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Train every combination of some settings, each with every seed, and rank them.

    A value that holds a comma stands in quotes or brackets. All combinations are checked before the first
    one is trained; those that are in the folder already are not trained again.

    Examples: flowgmm sweep digits flow.couplings=2,4,6 train.lr=1e-3,3e-3 --seeds 0..2 ·
    flowgmm sweep csv data.path=my.csv data.label=y prior.means=labelled,logistic_regression
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.experiments.grid import parse_integers, read_grid
    from flowgmm_cli.experiments.points import sweep_points

    grid, draws = read_grid(words), parse_integers(seeds, "--seeds")
    points = sweep_points(recipe, grid, draws, overlays=overlay or ())
    for line in dict.fromkeys(line for point in points for line in point.recipe.origin.notes):
        console.note(line)
    console.note(f"{len(grid):,} combinations, {len(points):,} runs")
    console.note("loading torch…")

    from flowgmm_cli.cli.studying import carry_out
    from flowgmm_cli.experiments.experiment import Experiment
    from flowgmm_cli.experiments.outputs import write_sweep

    first = points[0].recipe
    folder = (out or Path("sweeps", first.name)).expanduser()
    keys = [axis.key for axis in grid.axes]
    experiment = Experiment(folder, kind="sweep", recipe=first, keys=keys, overrides=grid.fixed)
    value = carry_out(experiment, points, write_sweep, baselines=False, offline=offline)
    if as_json:
        console.print_json(value)
    else:
        _show(value)
    for file in ("sweep.csv", "sweep.json", "sweep.png"):
        console.note(f"written {folder / file}")


def _show(value: Mapping[str, Any]) -> None:
    from flowgmm_cli.cli import console

    groups: Sequence[Mapping[str, Any]] = value["combinations"]
    keys = list(dict.fromkeys(key for group in groups for key in group["settings"]))
    criteria = list(dict.fromkeys(group["criterion"]["metric"] for group in groups if group["criterion"]))
    rows = []
    for group in groups:
        accuracy, watched = group["accuracy"], group["criterion"]
        rows.append(
            [
                *(group["settings"].get(key, "") for key in keys),
                accuracy["n"],
                f"{accuracy['mean']:.4f} ±{accuracy['sd']:.4f}",
                f"{accuracy['min']:.4f} to {accuracy['max']:.4f}",
                f"{group['nll']['mean']:.3f}",
                f"{group['ece']['mean']:.3f}",
                *(
                    f"{watched['mean']:.4f}" if watched and watched["metric"] == name else ""
                    for name in criteria
                ),
                f"{group['seconds']['mean']:.0f}",
            ]
        )
    right = ["seeds", "test accuracy", "least to most", "NLL", "ECE", *criteria, "seconds"]
    console.print_table([*keys, *right], rows, right=right, title=f"{value['folder']}: {value['note']}")

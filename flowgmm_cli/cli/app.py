"""The command-line application: one Typer app, one module per subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

from flowgmm_cli.cli.lazy import lazy_group

COMMANDS = {
    "train": ("Train a model from a recipe, calibrate it and test it.", "train:train"),
    "eval": (
        "Evaluate a run: accuracy, calibration and density, by class, with confidence intervals.",
        "eval:evaluate",
    ),
    "predict": (
        "Predict classes: one row for each row of the input, in order, to a file or to stdout.",
        "predict:predict",
    ),
    "sample": (
        "Make rows: of classes, on the way between two rows, or of one class in the manner of another.",
        "sample:sample",
    ),
    "features": (
        "List the layers of a flow, or show what a channel of one does: rows with it turned up and down.",
        "features:features",
    ),
    "embed": (
        "Embed rows: one vector for each row of the input, in order, to a file or to stdout.",
        "embed:embed",
    ),
    "ood": (
        "Tell rows apart: the rows of --out against in-distribution rows, by every score of the run.",
        "ood:ood",
    ),
    "report": (
        "Write a page about a run: results, curves, figures, samples, settings. It needs no network to be "
        "read.",
        "report:report",
    ),
    "check": (
        "Check a model on rows: inverse and log-determinant layer by layer, latents, dead dimensions, NaN.",
        "check:check",
    ),
    "init": (
        "Look at a table and write a recipe that trains on it, with the reason of each choice as a comment.",
        "init:init",
    ),
    "curve": (
        "Accuracy against the number of labels, with its spread over seeds, beside simple baselines.",
        "curve:curve",
    ),
    "sweep": (
        "Train every combination of some settings, each with every seed, and rank them.",
        "sweep:sweep",
    ),
    "runs": ("List, show and compare training runs.", "runs:app"),
    "recipes": ("List, show, copy and validate recipes.", "recipes:app"),
    "plugins": ("List, describe, make and test components, built in and installed.", "plugins:app"),
    "doctor": (
        "Report versions, devices, folders and plugin problems, to read or to paste into an issue.",
        "doctor:doctor",
    ),
}
"""Name -> (the first paragraph of its help, `module:attribute` in this package), in the order of the help."""

app = typer.Typer(
    name="flowgmm",
    cls=lazy_group({name: (text, f"flowgmm_cli.cli.{place}") for name, (text, place) in COMMANDS.items()}),
    help="One model from few labels and many unlabelled rows: it classifies, scores density, generates, "
    "embeds and detects out-of-distribution data.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # errors are rendered in __main__
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from flowgmm_cli.cli.console import print_text

        print_text(f"flowgmm {version('flowgmm-cli')}")
        raise typer.Exit


@app.callback()
def _flowgmm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

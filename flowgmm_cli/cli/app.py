"""The command-line application: one Typer app, one module per subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

from flowgmm_cli.cli import curve, doctor, plugins, recipes, runs, sweep, train
from flowgmm_cli.cli import eval as evaluation

app = typer.Typer(
    name="flowgmm",
    help="One model from few labels and many unlabelled rows: it classifies, scores density, generates, "
    "embeds and detects out-of-distribution data.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # errors are rendered in __main__
    context_settings={"help_option_names": ["-h", "--help"]},
)

# in the order of the help page
app.command()(train.train)
app.command("eval")(evaluation.evaluate)
app.command()(curve.curve)
app.command()(sweep.sweep)
app.add_typer(runs.app, name="runs")
app.add_typer(recipes.app, name="recipes")
app.add_typer(plugins.app, name="plugins")
app.command()(doctor.doctor)


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

"""The command-line application: one Typer app, one module per subcommand."""

from __future__ import annotations

from typing import Annotated

import typer

from flowgmm_cli.cli import (
    check,
    curve,
    doctor,
    embed,
    init,
    ood,
    plugins,
    predict,
    recipes,
    report,
    runs,
    sample,
    sweep,
    train,
)
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
app.command()(predict.predict)
app.command()(sample.sample)
app.command(cls=embed.EmbedCommand)(embed.embed)
app.command()(ood.ood)
app.command()(report.report)
app.command()(check.check)
app.command()(init.init)
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

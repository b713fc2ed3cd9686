"""The command-line application: one Typer app whose commands are imported when they are used.

A help page of the application needs only names and summaries, so it imports no command.
"""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

COMMANDS = {
    "train": "Train a model from a recipe, calibrate it and test it.",
    "eval": "Evaluate a run: accuracy, calibration and density, by class, with confidence intervals.",
    "predict": "Predict classes: one row for each row of the input, in order, to a file or to stdout.",
    "sample": "Make rows: of classes, on the way between two rows, or of one class in the manner of another.",
    "features": (
        "List the layers of a flow, or show the effect of a channel: rows with it turned up and down."
    ),
    "embed": "Embed rows: one vector for each row of the input, in order, to a file or to stdout.",
    "ood": "Tell rows apart: the rows of --out against in-distribution rows, by every score of the run.",
    "discover": (
        "Find groups of kinds without a name among unlabelled rows, with the words or columns that mark them."
    ),
    "labels": "List labels that look wrong, or import labels from an annotation tool.",
    "export": (
        "Export a model to a folder that runs without PyTorch and flowgmm: it classifies, scores and embeds."
    ),
    "suggest": "Suggest which unlabelled rows to label next, with the reason for each.",
    "report": "Write a page about a run: results, curves, figures, samples, settings. It needs no network to "
    "be read.",
    "check": (
        "Check a model on rows: inverse and log-determinant layer by layer, latents, dead dimensions, NaN."
    ),
    "init": (
        "Look at a table and write a recipe that trains on it, with the reason of each choice as a comment."
    ),
    "curve": "Accuracy against the number of labels, with its spread over seeds, beside simple baselines.",
    "sweep": "Train every combination of some settings, each with every seed, and rank them.",
    "runs": "List, show and compare training runs.",
    "push": "Send a run to the Hugging Face Hub, from where `hf://owner/name` reads it.",
    "recipes": "List, show, copy and validate recipes.",
    "plugins": "List, describe, make and test components, built in and installed.",
    "doctor": "Report versions, devices, folders and plugin problems, to read or to paste into an issue.",
}
"""Name -> first paragraph of its help, in the order of the help."""

_TARGETS = {
    "eval": "eval:evaluate",
    "curve": "experiments:curve",
    "labels": "labels:app",
    "sweep": "experiments:sweep",
    "runs": "runs:app",
    "recipes": "recipes:app",
    "plugins": "plugins:app",
}
"""Name -> `module:attribute` in this package, where it is not `name:name`."""


def hide_flag_types(params: list[Any]) -> list[Any]:
    """Show flags without a type in the help, since they take no value."""
    for param in params:
        if param.param_type_name == "option" and param.is_flag:
            param.metavar = ""
    return params


class Group(TyperGroup):
    """A group of commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, with that of `--help`."""
        return hide_flag_types(super().get_params(ctx))


class ListGroup(Group):
    """A group whose command `list` need not be named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; the first names a command of the group, or `list` is meant."""
        first = args[0] if args else ""
        if first not in self.commands and first not in ("-h", "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class LazyCommand(TyperCommand):
    """A placeholder for a command, or a group of commands, that is imported when its arguments are parsed.

    Args:
        name: name of the command.
        summary: first paragraph of its help.
        target: `package.module:attribute` of the function, or of a group's Typer application. A module may
            have a class `Command` for its function, or `GROUP`, the class of its group.
    """

    def __init__(self, name: str, summary: str, target: str) -> None:
        super().__init__(name, help=summary)
        self._target = target

    def load(self) -> Any:
        """Import and return the command itself."""
        from flowgmm_cli.cli.options import Command

        path, _, attribute = self._target.partition(":")
        module = import_module(path)
        target = getattr(module, attribute)
        app = typer.Typer(pretty_exceptions_enable=False)
        app.callback()(lambda: None)  # an application with a single command would be that command
        if isinstance(target, typer.Typer):
            app.add_typer(target, name=self.name, cls=getattr(module, "GROUP", Group))
        else:
            app.command(self.name, cls=getattr(module, "Command", Command))(target)
        group: Any = typer.main.get_command(app)
        return group.commands[self.name]

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the arguments with the command itself; the context is the command's own."""
        return self.load().make_context(info_name, args, parent=parent, **extra)


class LazyGroup(Group):
    """The commands of `COMMANDS`, not yet imported."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, summary in COMMANDS.items():
            target = _TARGETS.get(name, f"{name}:{name}")
            self.add_command(LazyCommand(name, summary, f"flowgmm_cli.cli.{target}"))


app = typer.Typer(
    name="flowgmm",
    cls=LazyGroup,
    help="One model from few labels and many unlabelled rows: it classifies, scores density, generates, "
    "embeds and detects out-of-distribution data.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,  # errors are printed in __main__
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        from flowgmm_cli.cli.output import print_text

        print_text(f"flowgmm {version('flowgmm-cli')}")
        raise typer.Exit


@app.callback()
def _flowgmm(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

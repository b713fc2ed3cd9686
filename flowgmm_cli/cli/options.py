"""Flags that several subcommands share, as annotated types; all are accepted after the subcommand.

    def show(name: str, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None: ...

`Quiet`, `Verbose` and `Offline` take effect while the command line is parsed; a command need not look.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flowgmm_cli.cli.console import settings


def _set_quiet(value: bool) -> bool:
    settings.quiet = value
    return value


def _set_verbose(value: bool) -> bool:
    settings.verbose = value
    return value


def _set_offline(value: bool) -> bool:
    if value:
        # read by huggingface_hub and datasets when they are imported, which is later than this
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return value


def complete_recipe(incomplete: str) -> list[str]:
    """Bundled names and recipe files that begin so, for the shell's completion; reads file names only."""
    from pathlib import Path

    from flowgmm_cli.recipe.bundled import bundled_recipes

    names = [name for name in bundled_recipes() if name.startswith(incomplete)]
    folder, _, start = incomplete.rpartition("/")
    below = sorted(Path(folder or ".").glob(f"{start.replace('[', '[[]')}*"))
    files = [f"{path}/" if path.is_dir() else str(path) for path in below]
    return names + [file for file in files if file.endswith((".yaml", ".yml", "/"))]


Json = Annotated[bool, typer.Option("--json", "-j", help="Print one JSON object.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="Say nothing but the answer and warnings.")
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", callback=_set_verbose, help="Say more; errors show their traceback."),
]
Offline = Annotated[
    bool,
    typer.Option(
        "--offline", envvar="FLOWGMM_OFFLINE", callback=_set_offline, help="Never touch the network."
    ),
]
Run = Annotated[
    str | None,
    typer.Argument(
        metavar="[RUN]",
        help="Run directory; else $FLOWGMM_RUN, else the newest finished run under ./runs.",
        show_default=False,
    ),
]
RunFlag = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="The same as the argument RUN.", show_default=False)
]
RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, or the name of a bundled recipe.",
        autocompletion=complete_recipe,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes to the recipe; KEY! removes.", show_default=False),
]

"""Flags that several subcommands share, as annotated types; all are accepted after the subcommand.

    def show(name: str, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None: ...

`Quiet`, `Verbose`, `Offline` and `PluginModule` take effect while the command line is parsed; a command need
not look.
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


def _load_modules(value: list[str] | None) -> list[str] | None:
    if value:
        from pathlib import Path

        from flowgmm_cli.errors import UsageError

        for file in value:
            if not Path(file).expanduser().is_file():
                raise UsageError(
                    f"--plugin-module: there is no file {file}",
                    hint="it takes a Python file that defines a FlowSpec, DataSpec, ...",
                )
        # read by the registry when it is made, which is later than this; kept for processes of our own
        given = [str(Path(file).expanduser().absolute()) for file in value]
        before = [one for one in os.environ.get("FLOWGMM_PLUGIN_MODULES", "").split(os.pathsep) if one]
        os.environ["FLOWGMM_PLUGIN_MODULES"] = os.pathsep.join(dict.fromkeys([*before, *given]))
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
PluginModule = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin-module",
        metavar="FILE.py",
        callback=_load_modules,
        help="Load components from a Python file of your own; may be given several times. Also "
        "$FLOWGMM_PLUGIN_MODULES.",
        show_default=False,
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
Overlay = Annotated[
    list[str] | None,
    typer.Option(
        "--overlay",
        metavar="NAME",
        help="Apply an overlay that the recipe has, before KEY=VALUE; may be given several times.",
        show_default=False,
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="FILE|-|SPEC",
        help="Rows to read: csv, tsv, parquet, jsonl, npz, npy, idx, txt, a folder of images, - for stdin, "
        "or a data spec such as '{use: csv, path: new.csv}'.",
        show_default=False,
    ),
]
InputFormat = Annotated[
    str | None,
    typer.Option(
        "--data-format",
        metavar="FORMAT",
        help="What the rows to read are, where their name does not say it; stdin is csv by default.",
        show_default=False,
    ),
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="FILE|-",
        help="File to write: csv, tsv, parquet, jsonl or npz by its suffix; - for stdout.",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="What to write, where the name of the file does not say it: csv, tsv, parquet, jsonl or npz.",
        show_default=False,
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="COLUMN,...",
        help="Columns to write, in this order; all of them without it.",
        show_default=False,
    ),
]
OnError = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="fail|keep",
        help="A row that cannot be read or scored: stop with its place, or keep it with empty cells.",
    ),
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        metavar="N",
        min=1,
        help="Score with so many processes: texts on a CPU, or several GPUs.",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda", help="Where the model computes.")]

"""Options that several commands share, as annotated types.

    def show(run: options.Run = None, as_json: options.Json = False) -> None: ...

Every command also takes `--quiet`, `--verbose`, `--offline` and `--plugin-module`, which `Command` adds. They
take effect while the command line is parsed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from flowgmm_cli.cli.app import hide_flag_types
from flowgmm_cli.cli.output import settings
from flowgmm_cli.errors import UsageError
from flowgmm_cli.messages import escape_controls


def _set_flag(param: typer.CallbackParam, value: bool) -> bool:
    setattr(settings, str(param.name), value)
    return value


def _set_offline(value: bool) -> bool:
    settings.offline = value
    if value:
        # huggingface_hub and datasets read these when they are imported, which is later
        os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    return value


def _add_plugin_modules(value: list[str] | None) -> list[str] | None:
    for file in value or ():
        if not Path(file).expanduser().is_file():
            hint = "it takes a Python file that defines a FlowSpec, DataSpec, ..."
            raise UsageError(f"--plugin-module: there is no file {file}", hint=hint)
    if value:
        # the registry and the processes that flowgmm starts read the variable
        known = [path for path in os.environ.get("FLOWGMM_PLUGIN_MODULES", "").split(os.pathsep) if path]
        paths = [str(Path(file).expanduser().absolute()) for file in value]
        os.environ["FLOWGMM_PLUGIN_MODULES"] = os.pathsep.join(dict.fromkeys([*known, *paths]))
    return value


def complete_recipe(incomplete: str) -> list[str]:
    """List bundled names and recipe files with a prefix, for completion in a shell; reads file names only."""
    from flowgmm_cli.recipe.catalogue import available_recipes

    names = [name for name in available_recipes() if name.startswith(incomplete)]
    folder, _, start = incomplete.rpartition("/")
    paths = sorted(Path(folder or ".").glob(f"{start.replace('[', '[[]')}*"))
    files = [f"{path}/" if path.is_dir() else str(path) for path in paths]
    return names + [file for file in files if file.endswith((".yaml", ".yml", "/"))]


def option(usage: str, help: str, **settings: Any) -> Any:
    """Describe an option by its usage, such as `--number -n N`; `settings` are those of `typer.Option`."""
    words = usage.split(" ")
    flags = [word for word in words if word.startswith("-")]
    return typer.Option(*flags, metavar=" ".join(words[len(flags) :]) or None, help=help, **settings)


# --- options of every command -----------------------------------------------------------------------------


def _common(
    quiet: Annotated[
        bool, option("--quiet -q", "Print only the result and warnings.", callback=_set_flag)
    ] = False,
    verbose: Annotated[
        bool, option("--verbose -v", "Print more; errors come with their traceback.", callback=_set_flag)
    ] = False,
    offline: Annotated[
        bool, option("--offline", "Never use the network.", envvar="FLOWGMM_OFFLINE", callback=_set_offline)
    ] = False,
    plugin_module: Annotated[
        list[str] | None,
        option(
            "--plugin-module FILE.py",
            "Load components from a Python file of your own; can be repeated. Also $FLOWGMM_PLUGIN_MODULES.",
            callback=_add_plugin_modules,
        ),
    ] = None,
) -> None:
    pass


@cache
def _common_params() -> tuple[Any, ...]:
    app = typer.Typer(add_completion=False)
    app.command()(_common)
    params = tuple(typer.main.get_command(app).params)
    for param in params:
        param.expose_value = False  # their callbacks do the work
    return params


class Command(TyperCommand):
    """A command with the options that every command takes; its help is wrapped for the terminal alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common_params()]
        paragraphs = (" ".join(part.split()) for part in (self.help or "").split("\n\n"))
        self.help = "\n\n".join(map(_list_examples, paragraphs))

    def get_params(self, ctx: Any) -> list[Any]:
        """List the parameters, with that of `--help`."""
        return hide_flag_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; a recipe key that is written like an option is answered with its spelling.

        Raises:
            UsageError: an option is a recipe key.
        """
        if any(param.name == "overrides" for param in self.params):
            known = {flag for param in self.get_params(ctx) for flag in (*param.opts, *param.secondary_opts)}
            for place, word in enumerate(takewhile(lambda word: word != "--", args)):
                flag = word.partition("=")[0]
                if flag.startswith("--") and flag not in known:
                    _explain_setting(args, place)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # a usage error quotes the words of the command line
            if "message" in vars(error):
                text = vars(error)["message"].removeprefix("Value error, ")  # a word of pydantic
                vars(error)["message"] = escape_controls(text)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Raises `UsageError` if the current folder is gone, where libraries would abort."""
        try:
            Path.cwd()
        except FileNotFoundError:
            hint = "cd to another folder first"
            raise UsageError("the current folder has been removed", hint=hint) from None
        return super().invoke(ctx)


def _list_examples(paragraph: str) -> str:
    """Write each example on a line of its own."""
    label, colon, examples = paragraph.partition(": ")
    if label not in ("Example", "Examples"):
        return paragraph
    return "\n".join([label + colon.rstrip(), *(f"  {example}" for example in examples.split(" · "))])


def _explain_setting(words: Sequence[str], place: int) -> None:
    """Raise `UsageError` if the option at a place, such as `--epochs`, is a key of recipes."""
    from flowgmm_cli.recipe.load import find_keys

    flag, equals, value = words[place].partition("=")
    if not equals:
        value = next((word for word in words[place + 1 : place + 2] if not word.startswith("-")), "VALUE")
    recipes = [word for word in words if word != value and "=" not in word and not word.startswith("-")]
    keys = find_keys(recipes, flag.lstrip("-").replace("-", "_"))
    if keys:
        first, *others = [f"{key}={value}" for key in keys[:4]]
        hint = f"or {' or '.join(others)}" if others else f"write {first} in the place of {flag}"
        raise UsageError(f"{flag}: settings are KEY=VALUE: {first}", hint=hint)


# --- output -----------------------------------------------------------------------------------------------

Json = Annotated[bool, option("--json -j", "Print one JSON object.")]
Save = Annotated[
    str | None,
    option("--save FILE|-", "File to write: csv, tsv, parquet, jsonl or npz by its suffix; - for stdout."),
]
SaveSamples = Annotated[
    str | None,
    option("--save FILE|-", "File to write: csv, tsv, parquet, jsonl, npz, or png for images; - for stdout."),
]
Format = Annotated[
    str | None,
    option(
        "--format FORMAT", "Format to write, if the file's name has none: csv, tsv, parquet, jsonl or npz."
    ),
]
Only = Annotated[
    list[str] | None, option("--only COLUMN,...", "Columns to write, in this order; all of them without it.")
]
With = Annotated[
    list[str] | None, option("--with COLUMN,...|all", "Columns of --data to keep, after those of the output.")
]
Force = Annotated[bool, option("--force", "Replace a file that exists.")]
FailUnder = Annotated[
    list[str] | None,
    option("--fail-under METRIC=VALUE", "Exit with 7 if a metric is below a value; can be repeated."),
]

# --- runs and rows ----------------------------------------------------------------------------------------

Run = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="Run directory or hf://owner/name[@revision]; else $FLOWGMM_RUN, else the newest finished run "
        "under ./runs.",
    ),
]
RowsArgument = Annotated[
    str | None,
    typer.Argument(metavar="FILE", help="Rows to read, the same as --data FILE; RUN may be left out."),
]
RunFlag = Annotated[str | None, option("--run RUN", "The same as the argument RUN.")]
Data = Annotated[
    str | None,
    option(
        "--data FILE|-|SPEC",
        "Rows to read: csv, tsv, parquet, jsonl, npz, npy, idx, txt, a folder of images or texts, - for "
        "stdin, or a data spec such as '{use: csv, path: new.csv}'.",
    ),
]
DataFormat = Annotated[
    str | None,
    option("--data-format FORMAT", "Format of the rows to read, if their file's name has none; stdin: csv."),
]
OnError = Annotated[
    Literal["fail", "keep"],
    option("--on-error fail|keep", "If a row cannot be scored: stop and name it, or leave its cells empty."),
]
Score = Annotated[
    str | None,
    option("--score NAME", "Out-of-distribution score that flags rows; the run's own choice without it."),
]
Fpr = Annotated[
    float | None,
    option("--fpr", "Share of in-distribution rows to flag; the recipe's ood.fpr without it.", min=0, max=1),
]
Device = Annotated[str, option("--device auto|cpu|cuda", "Device on which the model computes.")]
Processes = Annotated[
    int, option("--processes N", "Processes that score rows: for texts on a CPU, or several GPUs.", min=1)
]

# --- recipes and experiments ------------------------------------------------------------------------------

RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe file, or the name of a bundled recipe.",
        autocompletion=complete_recipe,
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe; KEY! removes.")
]
Overlay = Annotated[
    list[str] | None,
    option("--overlay NAME", "Apply an overlay of the recipe, before KEY=VALUE; can be repeated."),
]
Seeds = Annotated[
    str,
    option(
        "--seeds A..B", "Seeds of label draws and training, such as 0..4 or 0,2; test rows stay the same."
    ),
]
ExperimentFolder = Annotated[
    Path | None,
    option("--out DIR", "Folder of the results and runs; default: curves/RECIPE or sweeps/RECIPE."),
]

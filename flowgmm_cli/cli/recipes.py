"""`flowgmm recipes`: the bundled recipes, validation, and the JSON Schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowgmm_cli.cli.options import Json, Overlay, Overrides, PluginModule, Quiet, RecipeName, Verbose

app = typer.Typer(help="List, show, copy and validate recipes.", no_args_is_help=True)


@app.command("list")
def list_recipes(as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """List the bundled recipes and those of installed plugins."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.bundled import bundled_recipes

    found = list(bundled_recipes(registry()).values())
    if as_json:
        rows = [
            {
                "name": one.name,
                "summary": one.summary,
                "path": str(one.path),
                "overlays": list(one.overlays),
            }
            for one in found
        ]
        console.print_json({"schema": "flowgmm/recipes/1", "recipes": rows})
        return
    overlays = [", ".join(one.overlays) for one in found]
    columns = ["name", "summary", *(["overlays"] if any(overlays) else [])]
    cells = zip(found, overlays, strict=True)
    console.print_table(columns, [[one.name, one.summary, names][: len(columns)] for one, names in cells])
    console.note("\ncopy one to change it: flowgmm recipes copy NAME")


@app.command()
def show(
    recipe: RecipeName,
    overrides: Overrides = None,
    overlay: Overlay = None,
    resolved: Annotated[
        bool,
        typer.Option("--resolved", help="All defaults filled in, changes applied, references replaced."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Print a recipe: as it is written, or with `--resolved` as it will run."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.load import find_recipe, load_recipe, read_text

    if (overrides or overlay) and not (resolved or as_json):
        what = "overrides need" if overrides else "--overlay needs"
        raise UsageError(f"{what} --resolved: without it the file is shown as it is written")
    if not (resolved or as_json):
        console.print_text(read_text(find_recipe(recipe, registry())))
        return
    loaded = load_recipe(recipe, overrides or (), overlays=overlay or ())
    for line in loaded.origin.notes:
        console.note(line)
    if loaded.overlays and not loaded.origin.overlays:
        names = ", ".join(loaded.overlays)
        console.note(f"without the recipe's overlays ({names}); --overlay NAME applies one")
    if as_json:
        console.print_json(
            {
                "schema": "flowgmm/recipe/1",
                "path": str(loaded.origin.path),
                "overlays": {"known": list(loaded.overlays), "applied": list(loaded.origin.overlays)},
                "recipe": loaded.to_dict(),
            }
        )
    else:
        console.print_text(loaded.to_yaml())


@app.command()
def copy(
    recipe: RecipeName,
    destination: Annotated[
        Path | None, typer.Argument(help="A file or folder; default: the current folder.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Copy a recipe, comments included, to change it."""
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.load import find_recipe, read_text

    source = find_recipe(recipe, registry())
    target = destination.expanduser() if destination is not None else Path()
    if target.is_dir():
        target = target / source.name
    if target.exists() and not force:
        raise UsageError(f"{target} exists already", hint="name another file, or replace it with --force")
    text = read_text(source)
    try:
        target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror or error}") from error
    console.print_text(str(target))
    console.note(f"next: flowgmm train {target}")


@app.command()
def check(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE...", show_default=False, help="Recipes, then changes to all of them."),
    ],
    overlay: Overlay = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Validate recipes without training; reports every problem at once.

    Without `--overlay`, every overlay of a recipe is validated as well, each applied alone.
    """
    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import FlowgmmError, UsageError
    from flowgmm_cli.recipe.check import check_recipe
    from flowgmm_cli.recipe.load import find_source

    overrides = [word for word in recipes if _is_override(word)]
    names = [word for word in recipes if not _is_override(word)]
    if not names:
        raise UsageError("name a recipe to check", hint="flowgmm recipes check RECIPE [KEY=VALUE]...")
    failures: dict[str, FlowgmmError] = {}
    overlays: dict[str, list[str]] = {}
    for name in names:
        try:
            loaded = check_recipe(find_source(name, overrides), overlay or ())
        except FlowgmmError as error:
            if len(names) == 1 and not as_json:
                raise
            failures[name] = error
        else:
            overlays[name] = list(loaded.origin.overlays or loaded.overlays)
            for line in loaded.origin.notes:
                console.note(line)
            if loaded.overlays and not overlay:
                console.note(f"{name}: valid with each overlay too ({', '.join(loaded.overlays)})")
        if not as_json:
            if name in failures:
                console.show_error(failures[name])
            else:
                console.print_text(f"ok  {name}")
    if as_json:
        rows = [
            {
                "recipe": name,
                "ok": name not in failures,
                "problems": _problems_of(failures.get(name)),
                "overlays": overlays.get(name, []),
            }
            for name in names
        ]
        console.print_json({"schema": "flowgmm/recipes-check/1", "recipes": rows})
    if failures:
        raise typer.Exit(max(error.exit_code for error in failures.values()))


@app.command()
def schema(
    save: Annotated[
        Path | None, typer.Option("--save", help="Write it to this file.", show_default=False)
    ] = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    plugin_module: PluginModule = None,
) -> None:
    """Print the JSON Schema of recipes, installed plugins included, for an editor."""
    import json

    from flowgmm_cli.cli import console
    from flowgmm_cli.errors import UsageError
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.json_schema import recipe_schema

    value = recipe_schema(registry())
    if save is None:
        console.print_json(value)
        return
    try:
        save.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{save} cannot be written: {error.strerror or error}") from error
    console.print_text(str(save))
    console.note(f"first line of a recipe:  # yaml-language-server: $schema={save}")


def _is_override(word: str) -> bool:
    return "=" in word or word.endswith("!")


def _problems_of(error: Exception | None) -> list[str]:
    from flowgmm_cli.errors import FlowgmmError

    if not isinstance(error, FlowgmmError):
        return []
    return list(error.details) or [error.message]

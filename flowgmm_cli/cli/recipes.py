"""`flowgmm recipes`: the bundled recipes, validation, and the JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowgmm_cli.cli import options, output
from flowgmm_cli.cli.validation import check_absent
from flowgmm_cli.errors import FlowgmmError, UsageError
from flowgmm_cli.files import write_json, write_text
from flowgmm_cli.messages import quote
from flowgmm_cli.user_files import explain_write_errors

if TYPE_CHECKING:
    from flowgmm_cli.recipe.schema import Recipe

app = typer.Typer(help="List, show, copy and validate recipes.", no_args_is_help=True)


@app.command("list", cls=options.Command)
def list_recipes(as_json: options.Json = False) -> None:
    """List the bundled recipes and those of installed plugins."""
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.catalogue import available_recipes

    rows = [
        {"name": r.name, "summary": r.summary, "path": str(r.path), "overlays": list(r.overlays)}
        for r in available_recipes(registry()).values()
    ]
    if as_json:
        output.print_json({"schema": "flowgmm/recipes/1", "recipes": rows})
        return
    columns = ["name", "summary", *(["overlays"] if any(row["overlays"] for row in rows) else [])]
    cells = [[row["name"], row["summary"], ", ".join(row["overlays"])][: len(columns)] for row in rows]
    output.print_table(columns, cells)
    output.note("")
    output.note("copy one to change it: flowgmm recipes copy NAME")


@app.command(cls=options.Command)
def show(
    recipe: options.RecipeName,
    overrides: options.Overrides = None,
    overlay: options.Overlay = None,
    resolved: Annotated[
        bool, options.option("--resolved", "Fill in all defaults, apply changes, replace references.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Print a recipe: as it is written, or with `--resolved` as it will run."""
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.catalogue import find_recipe
    from flowgmm_cli.recipe.load import load_recipe
    from flowgmm_cli.recipe.yaml import read_text

    if (overrides or overlay) and not (resolved or as_json):
        subject = "overrides need" if overrides else "--overlay needs"
        raise UsageError(f"{subject} --resolved: without it the file is shown as it is written")
    if not (resolved or as_json):
        output.print_exact(read_text(find_recipe(recipe, registry())))
        return
    loaded = load_recipe(recipe, overrides or (), overlays=overlay or ())
    for line in loaded.origin.notes:
        output.note(line)
    if loaded.overlays and not loaded.origin.overlays:
        names = ", ".join(loaded.overlays)
        output.note(f"without the recipe's overlays ({names}); --overlay NAME applies one")
    if as_json:
        overlays = {"known": list(loaded.overlays), "applied": list(loaded.origin.overlays)}
        values = {"path": str(loaded.origin.path), "overlays": overlays, "recipe": loaded.to_stored()}
        output.print_json({"schema": "flowgmm/recipe/1", **values})
    else:
        output.print_exact(loaded.to_yaml())


@app.command(cls=options.Command)
def copy(
    recipe: options.RecipeName,
    destination: Annotated[
        Path | None, typer.Argument(help="A file or folder; default: the current folder.")
    ] = None,
    force: options.Force = False,
) -> None:
    """Copy a recipe, comments included, to change it; its data, too, if flowgmm has them.

    Example: flowgmm recipes copy trees
    """
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.catalogue import find_recipe, recipe_folder
    from flowgmm_cli.recipe.load import missing_keys
    from flowgmm_cli.recipe.yaml import read_text

    source = find_recipe(recipe, registry())
    target = (destination or Path()).expanduser()
    if target.is_dir():
        target = target / source.name
    tables = sorted(source.parent.glob(f"{source.stem}*.csv")) if source.parent == recipe_folder() else []
    copies = {target: source, **{target.parent / table.name: table for table in tables}}
    for file in copies:
        check_absent(file, "name another file, or replace it with --force", force=force)
    for file, data in {file: read_text(original) for file, original in copies.items()}.items():
        with explain_write_errors(file):
            write_text(file, data)
        output.print_exact(str(file))
    train = f"flowgmm train {quote(target)}"
    if missing := missing_keys(str(target)):
        init = "; or flowgmm init FILE" if "data.label" in missing else ""
        output.note(f"next: fill in {' and '.join(missing)}, then {train}{init}")
    else:
        output.note(f"next: {train}")


@app.command(cls=options.Command)
def check(
    recipes: Annotated[
        list[str], typer.Argument(metavar="RECIPE...", help="Recipes, then changes to all of them.")
    ],
    overlay: options.Overlay = None,
    as_json: options.Json = False,
) -> None:
    """Validate recipes without training; reports every problem at once.

    Without `--overlay`, every overlay of a recipe is validated as well, each applied alone.
    """
    from flowgmm_cli.recipe.load import check_recipe

    overrides = [word for word in recipes if "=" in word or word.endswith("!")]
    names = [word for word in recipes if word not in overrides]
    if not names:
        raise UsageError("name a recipe to check", hint="flowgmm recipes check RECIPE [KEY=VALUE]...")
    rows: list[dict[str, Any]] = []
    codes = []
    for name in names:
        row = {"recipe": name, "ok": True, "problems": [], "overlays": []}
        rows.append(row)
        try:
            loaded = check_recipe(name, overrides, overlays=overlay or ())
        except FlowgmmError as error:
            if len(names) == 1 and not as_json:
                raise
            if not as_json:
                output.print_error(error)
            row |= {"ok": False, "problems": list(error.details) or [error.message]}
            codes.append(error.exit_code)
            continue
        row["overlays"] = list(loaded.origin.overlays or loaded.overlays)
        for line in (*loaded.origin.notes, *_missing_files(loaded)):
            output.note(line)
        if loaded.overlays and not overlay:
            output.note(f"{name}: valid with each overlay too ({', '.join(loaded.overlays)})")
        if not as_json:
            output.print_text(f"ok  {name}")
    if as_json:
        output.print_json({"schema": "flowgmm/recipes-check/1", "recipes": rows})
    if codes:
        raise typer.Exit(max(codes))


@app.command(cls=options.Command)
def schema(save: Annotated[Path | None, options.option("--save", "Write it to this file.")] = None) -> None:
    """Print the JSON Schema of recipes, installed plugins included, for an editor."""
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.recipe.json_schema import recipe_schema

    value = recipe_schema(registry())
    if save is None:
        output.print_json(value)
        return
    with explain_write_errors(save):
        write_json(save, value)
    output.print_exact(str(save))
    output.note(f"first line of a recipe:  # yaml-language-server: $schema={save}")


def _missing_files(recipe: Recipe) -> Iterator[str]:
    """Describe the files of a table, array or folder that are not there; a name may be one of the hub."""
    values = dict(recipe.data.config)
    for key in ("path", "test_path", "val_path"):
        path = values.get(key)
        if not isinstance(path, str) or "://" in path or set(path) & set("*?["):
            continue
        file = Path(path).expanduser()
        if (recipe.data.use in ("csv", "arrays") or file.suffix) and not file.exists():
            where = "" if file.is_absolute() else f" in {Path.cwd()}"
            yield f"{recipe.name}: data.{key}: there is no {path}{where} yet"

"""From a recipe's name or path, and the words after it, to a validated `Recipe`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.provenance import qualify, require
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.catalogue import available_recipes
from flowgmm_cli.recipe.check import check_candidates
from flowgmm_cli.recipe.parse import Source, parse
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.yaml import MAX_BYTES, read_yaml, write_yaml

_HINT = "`flowgmm recipes list` shows the bundled ones"


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    overlays: Sequence[str] = (),
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
) -> Recipe:
    """Read, override, interpolate and validate a recipe.

    Args:
        name_or_path: a file, else the name of a bundled recipe.
        overrides: words `key.path=value` or `key.path!`.
        overlays: names of the recipe's overlays to apply, in this order, before the words.
        registry: the components; default: this process's.
        environ: environment variables for `${env:NAME}`; default: this process's.

    Raises:
        RecipeError: there is no such recipe, it cannot be read, or it is invalid; all problems are named.
        PluginError: the only problems are components that cannot be used.
    """
    source = find_source(name_or_path, overrides, registry=registry, environ=environ)
    recipe = parse(source, overlays)
    check_candidates(recipe, source.registry)
    return recipe


def find_source(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
) -> Source:
    """Find and read a recipe's file; the arguments are those of `load_recipe`."""
    known = registry or plugins.registry()
    path = find_recipe(name_or_path, known)
    return Source(read_text(path), path, overrides, known, os.environ if environ is None else environ)


def load_resolved(
    path: str | Path, *, registry: Registry | None = None, components: Sequence[Mapping[str, Any]] = ()
) -> Recipe:
    """Read a run's `resolved.yaml`, which is complete: nothing in it is interpolated.

    `components` is the provenance of the run's components, from its `run.json`. Raises `RecipeError` if the
    file is missing or invalid, `PluginError` if a component it names is not installed any more.
    """
    file = Path(path)
    known = registry or plugins.registry()
    require(components, what=f"the run in {file.parent}", known=known)
    text = read_text(file)
    plain = read_yaml(text, str(file)).plain()
    renamed = qualify(plain, components)
    recipe = parse(Source(text if renamed == plain else write_yaml(renamed), file, (), known, None))
    check_candidates(recipe, known)
    return recipe


def parse_resolved(
    values: Mapping[str, object],
    source: str,
    overrides: Sequence[str] = (),
    *,
    overlays: Sequence[str] = (),
    registry: Registry | None = None,
) -> Recipe:
    """Validate plain values such as those of `Recipe.to_dict`, which may have overlays too.

    `source` is their place in messages; the other arguments and the errors are those of `load_recipe`.
    """
    known = registry or plugins.registry()
    recipe = parse(Source(write_yaml(dict(values)), Path(source), overrides, known, None), overlays)
    check_candidates(recipe, known)
    return recipe


def find_recipe(name_or_path: str, registry: Registry) -> Path:
    """Return the file of a name or path on the command line."""
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    recipes = available_recipes(registry)
    if name_or_path in recipes:
        return recipes[name_or_path].path
    if path.is_dir():
        raise RecipeError(f"{name_or_path} is a folder, not a recipe", hint="name the .yaml file in it")
    # a short name that two plugins offer is ambiguous
    short = [recipe for recipe in recipes.values() if recipe.package and recipe.path.stem == name_or_path]
    if len(short) == 1:
        return short[0].path
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path or os.sep in name_or_path:
        same = [name for name in (path.stem, f"paper/{path.stem}") if name in recipes]
        hint = f"a bundled recipe has this name: write `{same[0]}`" if same else _HINT
        raise RecipeError(f"there is no file {name_or_path}", hint=hint)
    guess = did_you_mean(name_or_path, recipes)
    raise RecipeError(f"there is no file and no bundled recipe `{name_or_path}`{guess}", hint=_HINT)


def read_text(path: Path) -> str:
    """Read a recipe file as text."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecipeError(f"{path} is larger than {MAX_BYTES:,} bytes, which no recipe needs")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"there is no file {path}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}  not UTF-8 text", hint="save the file as UTF-8") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error

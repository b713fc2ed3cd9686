"""From a recipe's name or path, and the words after it, to a validated `Recipe`."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from flowgmm_cli.api import DataConfig, ViewSpec
from flowgmm_cli.errors import PluginError, RecipeError, did_you_mean
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.provenance import qualified, require
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.bundled import bundled_recipes
from flowgmm_cli.recipe.parse import Source, parse
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.yaml import MAX_BYTES, read_yaml, write_yaml

_VARIED = ("data", "flow", "prior", "objective", "regularisers", "train", "calibration", "run")


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
        overlays: names of overlays that the recipe has; they are applied in this order, before the words.
        registry: the components; default: this process's.
        environ: environment variables for `${env:NAME}`; default: this process's.

    Raises:
        RecipeError: there is no such recipe, it cannot be read, or it is invalid; all problems are named.
        PluginError: nothing is wrong but that a component cannot be used.
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
    """Find and read a recipe's file; arguments as of `load_recipe`.

    Raises:
        RecipeError: there is no such recipe, or its file cannot be read.
    """
    known = registry or plugins.registry()
    path = find_recipe(name_or_path, known)
    return Source(read_text(path), path, overrides, known, os.environ if environ is None else environ)


def load_resolved(
    path: str | Path, *, registry: Registry | None = None, components: Sequence[Mapping[str, Any]] = ()
) -> Recipe:
    """Read a run's `resolved.yaml`: complete, so nothing in it is interpolated.

    Args:
        path: the file.
        registry: the components; default: this process's.
        components: where the run's components came from, as `run.json` says.

    Raises:
        RecipeError: the file is missing or invalid.
        PluginError: a component it names is not installed any more.
    """
    file = Path(path)
    known = registry or plugins.registry()
    require(components, what=f"the run in {file.parent}", known=known)
    text = read_text(file)
    plain = read_yaml(text, str(file)).plain()
    renamed = qualified(plain, components)
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
    """Validate plain values as `Recipe.to_dict` gives them; `source` names their place in messages.

    Args:
        values: the recipe; it may have overlays too.
        source: its place.
        overrides: words, as of `load_recipe`.
        overlays: names of overlays in `values`.
        registry: the components; default: this process's.

    Raises:
        RecipeError: they are invalid.
        PluginError: a component they name is not installed any more.
    """
    known = registry or plugins.registry()
    recipe = parse(Source(write_yaml(dict(values)), Path(source), overrides, known, None), overlays)
    check_candidates(recipe, known)
    return recipe


def vary(recipe: Recipe, changes: Mapping[str, Any], *, registry: Registry | None = None) -> Recipe:
    """A recipe with other values at some keys, such as `{"flow.couplings": 4}`; a name of its own it keeps.

    Values are taken as an override takes them: another `use` drops the parameters of the component before it.

    Raises:
        RecipeError: a key or value is not valid there.
        PluginError: a component it names cannot be used.
    """
    words = [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in changes.items()]
    path = recipe.path or Path(recipe.name)
    text = write_yaml({**recipe.to_dict(), "search": None})
    varied = parse(Source(text, path, words, registry or plugins.registry(), None))
    return dataclasses.replace(recipe, **{key: getattr(varied, key) for key in _VARIED})


def find_recipe(name_or_path: str, registry: Registry) -> Path:
    """The file that a name or path on the command line means.

    Raises:
        RecipeError: there is none. A bundled recipe is never taken for a path that does not exist.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    recipes = bundled_recipes(registry)
    if name_or_path in recipes:
        return recipes[name_or_path].path
    if path.is_dir():
        raise RecipeError(f"{name_or_path} is a folder, not a recipe", hint="name the .yaml file in it")
    # of two plugins' recipes with one name neither is meant
    short = [recipe for recipe in recipes.values() if recipe.package and recipe.path.stem == name_or_path]
    if len(short) == 1:
        return short[0].path
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path or os.sep in name_or_path:
        same = next((name for name in (path.stem, f"paper/{path.stem}") if name in recipes), None)
        hint = (
            f"a bundled recipe has this name: write `{same}`"
            if same
            else "`flowgmm recipes list` shows the bundled ones"
        )
        raise RecipeError(f"there is no file {name_or_path}", hint=hint)
    raise RecipeError(
        f"there is no file and no bundled recipe `{name_or_path}`{did_you_mean(name_or_path, recipes)}",
        hint="`flowgmm recipes list` shows the bundled ones",
    )


def read_text(path: Path) -> str:
    """Read a recipe file as text.

    Raises:
        RecipeError: it is missing, unreadable, too large or not UTF-8.
    """
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


def check_candidates(recipe: Recipe, registry: Registry) -> None:
    """Raise `RecipeError` if a candidate of the search is not a valid recipe that can be trained."""
    problems: list[str] = []
    prepared = _prepared_views(recipe, registry)
    for name, changes in (recipe.search.candidates if recipe.search else {}).items():
        where = f"search.candidates.{name}"
        try:
            own = _prepared_views(vary(recipe, changes, registry=registry), registry)
        except (RecipeError, PluginError) as error:
            problems += [f"{where}: {line}" for line in error.details or [error.message]]
            continue
        for side, views in own.items():
            if views and views != prepared[side]:
                listed = ", ".join(view["use"] for view in views)
                problems.append(
                    f"{where}: data.views.{side} has {listed}, and the recipe's own has not the same; what "
                    "acts before the transforms is made ready once, so a candidate can only leave it out"
                )
    if problems:
        raise RecipeError(f"{recipe.path} has candidates that cannot be trained", details=problems)


def _prepared_views(recipe: Recipe, registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """The views of a recipe that act before the transforms, by side."""
    views = cast(DataConfig, recipe.data.config).views
    return {
        side: [
            view.to_dict()
            for view in listed
            if cast(ViewSpec, registry.find("view", view.use).spec()).level != "features"
        ]
        for side, listed in (("weak", views.weak), ("strong", views.strong))
    }

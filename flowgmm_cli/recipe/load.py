"""From a recipe's name or path, and the words after it, to a validated `Recipe`."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from flowgmm_cli.api import DataConfig, ViewSpec
from flowgmm_cli.errors import PluginError, RecipeError, did_you_mean
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.provenance import qualified, require
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.bundled import bundled_recipes
from flowgmm_cli.recipe.interpolate import Interpolation
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import Path as KeyPath
from flowgmm_cli.recipe.node import describe
from flowgmm_cli.recipe.overrides import apply_overrides
from flowgmm_cli.recipe.problems import Problem, raise_problems
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.validate import Validator
from flowgmm_cli.recipe.yaml import MAX_BYTES, read_yaml, write_yaml

_VARIED = ("data", "flow", "prior", "objective", "regularisers", "train", "calibration", "run")


def load_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
) -> Recipe:
    """Read, override, interpolate and validate a recipe.

    Args:
        name_or_path: a file, else the name of a bundled recipe.
        overrides: words `key.path=value` or `key.path!`.
        registry: the components; default: this process's.
        environ: environment variables for `${env:NAME}`; default: this process's.

    Raises:
        RecipeError: there is no such recipe, it cannot be read, or it is invalid; all problems are named.
        PluginError: nothing is wrong but that a component cannot be used.
    """
    known = registry or plugins.registry()
    path = find_recipe(name_or_path, known)
    text = read_text(path)
    return _parse(text, path, overrides, known, os.environ if environ is None else environ)


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
    return _parse(text if renamed == plain else write_yaml(renamed), file, (), known, None)


def parse_resolved(values: Mapping[str, object], source: str, *, registry: Registry | None = None) -> Recipe:
    """Validate plain values as `Recipe.to_dict` gives them; `source` names their place in messages.

    Raises:
        RecipeError: they are invalid.
        PluginError: a component they name is not installed any more.
    """
    return _parse(write_yaml(dict(values)), Path(source), (), registry or plugins.registry(), None)


def vary(recipe: Recipe, changes: Mapping[str, Any], *, registry: Registry | None = None) -> Recipe:
    """A recipe with other values at some keys, such as `{"flow.couplings": 4}`; a name of its own it keeps.

    Values are taken as an override takes them: another `use` drops the parameters of the component before it.

    Raises:
        RecipeError: a key or value is not valid there.
        PluginError: a component it names cannot be used.
    """
    words = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    path = recipe.path or Path(recipe.name)
    text = write_yaml({**recipe.to_dict(), "search": None})
    varied = _parse(text, path, words, registry or plugins.registry(), None)
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


def _parse(
    text: str, path: Path, words: Sequence[str], registry: Registry, environ: Mapping[str, str] | None
) -> Recipe:
    source = str(path)
    root = read_yaml(text, source)
    if root.value is None:
        raise RecipeError(
            f"{source} is empty", hint="start from a bundled recipe: `flowgmm recipes copy digits`"
        )
    if not isinstance(root.value, dict):
        raise RecipeError(f"{source}:{root.mark.line}  a recipe is a mapping, not {describe(root.plain())}")
    layout = Layout(root, registry)
    notes = apply_overrides(root, words, layout)
    unresolved: list[Problem] = []
    failed: set[KeyPath] = set()
    env: set[str] = set()
    if environ is not None:
        interpolation = Interpolation(root, layout, environ)
        interpolation.run()
        unresolved, failed, env = interpolation.problems, interpolation.failed, interpolation.env
    validator = Validator(registry)
    model = validator.recipe(root)
    # what has no value cannot have the right type either: one message is enough
    raise_problems([*unresolved, *(one for one in validator.problems if one.path not in failed)], source)
    if model is None:
        raise RecipeError(f"{source} is invalid")
    recipe = Recipe(
        name=model.name or _name_from(path),
        path=path,
        text=text,
        overrides=tuple(words),
        notes=tuple(notes),
        env=tuple(sorted(env)),
        data=model.data,
        flow=model.flow,
        prior=model.prior,
        objective=model.objective,
        regularisers=tuple(model.regularisers),
        train=model.train,
        checkpoint=model.checkpoint,
        calibration=model.calibration,
        ensemble=model.ensemble,
        search=model.search,
        ood=model.ood,
        run=model.run,
    )
    _check_candidates(recipe, registry)
    return recipe


def _check_candidates(recipe: Recipe, registry: Registry) -> None:
    """Raise if a candidate of the search is not a valid recipe; before training is the time to say so."""
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


def _name_from(path: Path) -> str:
    """A recipe name from its file: characters that folders' names should not have become `_`."""
    return re.sub(r"[^\w.+-]|^[.+-]", "_", path.stem) or "recipe"

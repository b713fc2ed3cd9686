"""The recipes that come with flowgmm, and those of installed plugins."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.messages import quote

if TYPE_CHECKING:  # shell completion needs the names only, and fast
    from flowgmm_cli.plugins.registry import Registry


@dataclass(frozen=True)
class BundledRecipe:
    """A recipe that can be named without a path."""

    name: str  # the name, such as `digits` or `paper/mnist`; for a plugin's recipe `package/name`
    path: Path  # the file
    package: str = ""  # its distribution; empty for flowgmm's own

    @property
    def summary(self) -> str:
        """The first sentence of its comment or else the first line, without a leading `name — `."""
        with self.path.open(encoding="utf-8") as lines:
            start = dropwhile(lambda line: not line.startswith("#"), lines)
            comment = takewhile(lambda line: line.startswith("#") and line.strip("# \n"), start)
            paragraph = [line.lstrip("#").strip() for line in comment]
        sentence = re.match(r".*?\.(?= |$)", " ".join(paragraph))
        text = sentence[0] if sentence else "".join(paragraph[:1])
        head, dash, tail = text.partition(" — ")
        return tail if dash and " " not in head else text

    @property
    def overlays(self) -> tuple[str, ...]:
        """The names of its overlays; empty if it cannot be read."""
        from flowgmm_cli.recipe.changes import OVERLAYS_KEY, pop_overlays
        from flowgmm_cli.recipe.yaml import read_yaml

        text = self.path.read_text(encoding="utf-8", errors="replace")
        if OVERLAYS_KEY not in text:  # reading YAML takes milliseconds
            return ()
        try:
            return tuple(pop_overlays(read_yaml(text, str(self.path)))[0])
        except RecipeError:
            return ()


@cache
def recipe_folder() -> Path | None:
    """Return the folder of flowgmm's recipes: `flowgmm_cli/_recipes` in a wheel, `recipes/` in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_recipes", package.parent / "recipes"):
        if folder.is_dir():
            return folder
    return None


def available_recipes(registry: Registry | None = None) -> dict[str, BundledRecipe]:
    """Return all recipes by name: flowgmm's own, then those of the plugins in `registry`."""
    recipes = {recipe.name: recipe for recipe in _recipes_in(recipe_folder())}
    for entry in registry.recipes if registry is not None else ():
        if entry.state != "disabled":
            for recipe in _recipes_in(_plugin_folder(entry.target), entry.package):
                recipes.setdefault(recipe.name, recipe)
    return recipes


def find_recipe(name_or_path: str, registry: Registry) -> Path:
    """Return the file of a name or path on the command line."""
    hint = "`flowgmm recipes list` shows the bundled ones"
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    recipes = available_recipes(registry)
    if name_or_path in recipes:
        return recipes[name_or_path].path
    if path.is_dir():
        raise RecipeError(
            f"{name_or_path} is a folder, not a recipe",
            hint=f"name the .yaml file in it; or, if it holds rows: flowgmm init {quote(name_or_path)}",
        )
    # a short name that two plugins offer is ambiguous
    short = [recipe for recipe in recipes.values() if recipe.package and recipe.path.stem == name_or_path]
    if len(short) == 1:
        return short[0].path
    beside = [f"{name_or_path}{suffix}" for suffix in (".yaml", ".yml") if Path(f"{path}{suffix}").is_file()]
    guess = f"; did you mean `{beside[0]}`?" if beside else ""
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path or os.sep in name_or_path:
        same = [name for name in (path.stem, f"paper/{path.stem}") if name in recipes]
        if same:
            hint = f"a bundled recipe has this name: write `{same[0]}`"
        raise RecipeError(f"there is no file {name_or_path}{guess}", hint=hint)
    guess = guess or did_you_mean(name_or_path, recipes)
    raise RecipeError(f"there is no file and no bundled recipe `{name_or_path}`{guess}", hint=hint)


def _recipes_in(folder: Path | None, package: str = "") -> list[BundledRecipe]:
    if folder is None or not folder.is_dir():
        return []
    prefix = f"{package}/" if package else ""
    files = sorted(folder.rglob("*.yaml"), key=lambda path: (len(path.relative_to(folder).parts), path))
    return [
        BundledRecipe(prefix + path.relative_to(folder).with_suffix("").as_posix(), path, package)
        for path in files
    ]


def _plugin_folder(target: str) -> Path | None:
    """Return the folder of an entry point, `package.sub` or `package:folder`, without importing it."""
    module, _, folder = target.partition(":")
    top, *subpackages = module.split(".")
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))).joinpath(*subpackages, *folder.split("."))

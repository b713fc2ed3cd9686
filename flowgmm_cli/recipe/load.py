"""From a recipe's name, path or plain values, and the words after it, to a validated `Recipe`."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from flowgmm_cli.api import Component, DataConfig, Kind, ViewSpec
from flowgmm_cli.errors import FlowgmmError, PluginError, RecipeError
from flowgmm_cli.messages import quote
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.provenance import package_names, require
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.catalogue import available_recipes, find_recipe
from flowgmm_cli.recipe.changes import pop_overlays, require_overlays
from flowgmm_cli.recipe.interpolate import Interpolation
from flowgmm_cli.recipe.node import DEFAULT, Node, describe, format_path, make_node
from flowgmm_cli.recipe.node import Path as KeyPath
from flowgmm_cli.recipe.schema import Origin, Recipe
from flowgmm_cli.recipe.tree import RecipeTree
from flowgmm_cli.recipe.validate import MISSING, Problem, Validator, raise_problems
from flowgmm_cli.recipe.variants import keep_references, vary
from flowgmm_cli.recipe.yaml import read_text, read_yaml


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
    return _open(name_or_path, overrides, registry, environ).parse(overlays)


def check_recipe(
    name_or_path: str,
    overrides: Sequence[str] = (),
    *,
    overlays: Sequence[str] = (),
    registry: Registry | None = None,
    environ: Mapping[str, str] | None = None,
) -> Recipe:
    """Validate a recipe as it would be trained, and with each of its overlays separately.

    With `overlays`, only the recipe that they make is checked. The arguments and the errors, which name the
    problems of the recipe and of all overlays, are those of `load_recipe`.
    """
    source = _open(name_or_path, overrides, registry, environ)
    recipe, problems = source.try_parse(overlays)
    lines = _find_candidate_problems(recipe, source.registry)
    shown = {problem: problem for problem in [*problems, *_as_problems(lines)]}
    for name in () if overlays else source.overlays:
        for problem in source.overlay_problems(name):
            shown.setdefault(problem, problem.with_overlay(name))
    if recipe is None or len(shown) > len(lines):
        raise_problems(list(shown.values()), str(source.path), overlays)
    _raise_candidate_problems(lines, recipe)
    return recipe


def missing_keys(name_or_path: str) -> list[str]:
    """Return the required keys that a recipe leaves to its user, such as `data.path`."""
    _, problems = _open(name_or_path, (), None, None).try_parse()
    return [format_path(problem.path) for problem in problems if problem.message.startswith(MISSING)]


def find_keys(names: Sequence[str], key: str) -> list[str]:
    """Return the paths of a recipe key, such as `train.epochs` for `epochs`, the most likely first.

    The keys are those of the first of `names` that can be loaded, and those of a bundled recipe. A key with a
    dot is a path already.
    """
    if "." in key:
        return [key]
    paths: list[KeyPath] = []
    for name, words in product((*names, "two_moons"), ((), ("data.path=.", "data.label=label"))):
        with contextlib.suppress(FlowgmmError):
            nodes = make_node(load_recipe(name, words).to_dict()).walk()
            paths += [path for path, _ in nodes if path and path[-1] == key and path not in paths]
    return [format_path(path) for path in sorted(paths, key=lambda path: (path[0] != "train", len(path)))]


def load_resolved(
    path: str | Path, *, registry: Registry | None = None, components: Sequence[Mapping[str, Any]] = ()
) -> Recipe:
    """Read a run's `resolved.yaml`, which is complete; only environment variables are interpolated.

    One that is not set leaves its reference as it is, since not every use of a run needs the value.
    `components` is the provenance of the run's components, from its `run.json`. Raises `RecipeError` if the
    file is missing or invalid, `PluginError` if a component it names is not installed any more.
    """
    file = Path(path)
    known = registry or plugins.registry()
    require(components, what=f"the run in {file.parent}", known=known)
    text = read_text(file)
    root = _read(text, str(file))
    names = package_names(components)
    for key_path, node in root.walk():
        if key_path and str(key_path[-1]).split(".")[-1] == "use" and isinstance(node.value, str):
            node.value = names.get(node.value, node.value)
    return _Source(root, file, known, text, environ=os.environ, stored=True).parse()


def parse_resolved(
    values: Mapping[str, object],
    source: str,
    overrides: Sequence[str] = (),
    *,
    overlays: Sequence[str] = (),
    registry: Registry | None = None,
    stored: bool = False,
) -> Recipe:
    """Validate plain values such as those of `Recipe.to_dict`, which may have overlays too.

    `source` is their place in messages. With `stored` the values are those of `Recipe.to_stored`, read as
    `load_resolved` does. The other arguments and the errors are those of `load_recipe`.
    """
    known, environ = registry or plugins.registry(), os.environ if stored else None
    recipe = _Source(make_node(values), Path(source), known, words=overrides, environ=environ, stored=stored)
    return recipe.parse(overlays)


def parse_component(
    text: str,
    kind: Kind,
    *,
    source: str,
    defaults: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Component:
    """Read and validate a component by itself, written as in a recipe: `{use: csv, path: a.csv, label: y}`.

    `source` is the name of the text in messages, and `defaults` has values of required parameters that the
    text may leave out. Raises `RecipeError` with all problems, or `PluginError` if the component cannot be
    used.
    """
    known = registry or plugins.registry()
    root = read_yaml(text, source)
    if isinstance(root.value, dict) and defaults:
        use = root.value.get("use")
        try:
            fields = known.find(kind, str(use.value if use else "")).spec().config.model_fields
        except PluginError:  # reported by the validation, with its place
            fields = {}
        for key, value in defaults.items():
            if key not in root.value and key in fields and fields[key].is_required():
                root.value[key] = make_node(value)
    validator = Validator(known)
    component = validator.component(kind, root)
    if component is None:
        raise_problems(validator.problems, source)
    return component


@dataclass
class _Source:
    """A recipe that is read but not validated, and the words after it."""

    root: Node  # the values; the overlays are taken out
    path: Path  # the file
    registry: Registry  # the components
    text: str = ""  # the text of the file
    words: Sequence[str] = ()  # overrides `key.path=value` or `key.path!`
    environ: Mapping[str, str] | None = None  # environment variables; None = nothing is interpolated
    stored: bool = False  # whether the values are those of `Recipe.to_stored`

    def __post_init__(self) -> None:
        self.overlays, self.malformed = pop_overlays(self.root)

    def parse(self, overlays: Sequence[str] = ()) -> Recipe:
        """Validate the recipe with the named overlays, applied in this order, and then the words."""
        recipe, problems = self.try_parse(overlays)
        if recipe is None:
            self._raise_missing(problems)
            raise_problems(problems, str(self.path), overlays)
        _raise_candidate_problems(_find_candidate_problems(recipe, self.registry), recipe)
        return recipe

    def _raise_missing(self, problems: Sequence[Problem]) -> None:
        """Raise `RecipeError` if a bundled recipe only lacks keys that each user gives."""
        known = available_recipes(self.registry).values()
        name = next((recipe.name for recipe in known if recipe.path == self.path), None)
        if name is None or not all(problem.message.startswith(MISSING) for problem in problems):
            return
        keys = [format_path(problem.path) for problem in problems]
        raise RecipeError(
            f"the recipe {name} needs {' and '.join(keys)}",
            details=[f"{key}  {problem.message}" for key, problem in zip(keys, problems, strict=True)],
            hint=f"add to the command: {' '.join(f'{key}=...' for key in keys)}; or let `flowgmm init FILE` "
            "write a recipe",
        )

    def try_parse(self, overlays: Sequence[str] = ()) -> tuple[Recipe | None, list[Problem]]:
        """Return the recipe and no problem, or None and all of them, but for those of the candidates."""
        problems = list(self.malformed)
        if not problems:
            require_overlays(overlays, self.overlays, str(self.path))
        tree = RecipeTree(self.root.copy(), self.registry)
        notes: list[str] = []
        for name in overlays:
            if name in self.overlays:
                more_notes, more_problems = tree.apply_overlay(self.overlays[name].copy())
                notes += more_notes
                problems += more_problems
        notes += tree.apply_words(self.words)
        unresolved: set[KeyPath] = set()
        env: dict[str, str] = {}
        if self.environ is not None:
            interpolation = Interpolation(tree, self.environ, stored=self.stored)
            interpolation.run()
            problems += interpolation.problems
            unresolved, env = interpolation.failed, interpolation.env
        validator = Validator(self.registry)
        model = validator.recipe(tree.root)
        # an unresolved value has no type either: one message is enough
        problems += [problem for problem in validator.problems if problem.path not in unresolved]
        if model is None or problems:
            return None, problems
        origin = Origin(
            self.path, self.text, tuple(overlays), tuple(self.words), tuple(notes), tuple(sorted(env)),
            *keep_references(tree.root, env, self.registry),
        )  # fmt: skip
        # in a name from a file, `_` replaces characters unfit for folder names
        name = model.name or re.sub(r"[^\w.+-]|^[.+-]", "_", self.path.stem) or "recipe"
        variants = {overlay: node.plain() for overlay, node in self.overlays.items()}
        values = {**dict(model), "name": name, "overlays": variants, "origin": origin}
        return Recipe.model_validate(values), []

    def overlay_problems(self, name: str) -> Iterator[Problem]:
        """Yield the problems of the recipe with one of its overlays."""
        try:
            recipe, problems = self.try_parse([name])
        except RecipeError as error:  # a word cannot be applied after the overlay
            lines: Sequence[str] = error.details or (error.message,)
        else:
            yield from problems
            lines = _find_candidate_problems(recipe, self.registry)
        yield from _as_problems(lines)


def _open(
    name_or_path: str, words: Sequence[str], registry: Registry | None, environ: Mapping[str, str] | None
) -> _Source:
    known = registry or plugins.registry()
    path = find_recipe(name_or_path, known)
    text, environ = read_text(path), os.environ if environ is None else environ
    return _Source(_read(text, str(path)), path, known, text, words, environ)


def _read(text: str, name: str) -> Node:
    root = read_yaml(text, name)
    if root.value is None:
        hint = "start from a bundled recipe: `flowgmm recipes copy digits`"
        raise RecipeError(f"{name} is empty", hint=hint)
    if not isinstance(root.value, dict):
        raise RecipeError(
            f"{name}:{root.mark.line}  a recipe is a mapping, not {describe(root.plain())}",
            hint=f"if these are rows, `flowgmm init {quote(name)}` writes a recipe for them",
        )
    return root


# --- candidates of the search -----------------------------------------------------------------------------


def _find_candidate_problems(recipe: Recipe | None, registry: Registry) -> list[str]:
    """Return a line for each reason why a candidate of the search is not a recipe that can be trained."""
    if recipe is None or recipe.search is None:
        return []
    lines: list[str] = []
    views = _early_views(recipe, registry)
    for name, changes in recipe.search.all_candidates.items():
        place = f"search.{'challengers' if name in recipe.search.challengers else 'candidates'}.{name}"
        try:
            candidate_views = _early_views(vary(recipe, changes, registry=registry), registry)
        except (RecipeError, PluginError) as error:
            lines += [f"{place}: {line}" for line in error.details or (error.message,)]
            continue
        for side, changed in candidate_views.items():
            if changed and changed != views[side]:
                names = ", ".join(view["use"] for view in changed)
                lines.append(
                    f"{place}: data.views.{side} has {names}, which differ from the recipe's own; views "
                    "before the transforms are prepared once, so a candidate can only leave them out"
                )
    return lines


def _raise_candidate_problems(lines: Sequence[str], recipe: Recipe) -> None:
    if lines:
        raise RecipeError(f"{recipe.origin.path} has candidates that cannot be trained", details=lines)


def _as_problems(lines: Sequence[str]) -> list[Problem]:
    return [Problem((), line, DEFAULT) for line in lines]


def _early_views(recipe: Recipe, registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """Return the views of a recipe that act before the transforms, by side."""
    config = recipe.data.config
    if not isinstance(config, DataConfig):
        return {}
    return {
        side: [view.to_dict() for view in views if registry.spec(ViewSpec, view.use).level != "features"]
        for side, views in (("weak", config.views.weak), ("strong", config.views.strong))
    }

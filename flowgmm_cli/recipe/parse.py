"""From the text of a recipe to a validated `Recipe`: overlays, overrides, interpolation, validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgmm_cli.api import Component, Kind
from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.interpolate import Interpolation
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import Node, describe, make_node
from flowgmm_cli.recipe.node import Path as KeyPath
from flowgmm_cli.recipe.overlays import OVERLAYS_KEY, apply_overlay, pop_overlays, require_overlays
from flowgmm_cli.recipe.overrides import apply_overrides, make_overrides
from flowgmm_cli.recipe.problems import Problem, raise_problems
from flowgmm_cli.recipe.schema import Origin, Recipe, RecipeModel
from flowgmm_cli.recipe.validate import Validator
from flowgmm_cli.recipe.yaml import read_yaml

_VARIABLE_KEYS = ("data", "flow", "prior", "objective", "regularisers", "train", "calibration", "run")


@dataclass(frozen=True)
class Source:
    """The text of a recipe, and the words after it."""

    text: str  # the recipe
    path: Path  # its file
    words: Sequence[str]  # overrides `key.path=value` or `key.path!`
    registry: Registry  # the components
    environ: Mapping[str, str] | None  # environment variables; None = nothing is interpolated


@dataclass(frozen=True)
class ParseResult:
    """A parsed recipe with its problems."""

    recipe: Recipe | None  # None if there are problems
    problems: list[Problem]  # everything that is wrong
    known_overlays: tuple[str, ...]  # the names of its overlays


def parse(source: Source, overlays: Sequence[str] = ()) -> Recipe:
    """Validate a recipe with the named overlays, applied in this order, and then the words.

    Raises `RecipeError` with all problems, or `PluginError` if the only ones are unusable components.
    """
    result = try_parse(source, overlays)
    raise_problems(result.problems, str(source.path), overlays)
    if result.recipe is None:
        raise RecipeError(f"{source.path} is invalid")
    return result.recipe


def try_parse(source: Source, overlays: Sequence[str] = ()) -> ParseResult:
    """Do the same as `parse`, but return the problems."""
    name = str(source.path)
    root = _read(source.text, name)
    known, problems = pop_overlays(root)
    if not problems:
        require_overlays(overlays, known, name)
    layout = Layout(root, source.registry)
    notes: list[str] = []
    for overlay in [name for name in overlays if name in known]:
        more_notes, more_problems = apply_overlay(root, known[overlay].copy(), layout)
        notes += more_notes
        problems += more_problems
    notes += apply_overrides(root, source.words, layout)
    if root.child(OVERLAYS_KEY) is not None:
        message = f"`{OVERLAYS_KEY}` cannot be changed on the command line"
        raise RecipeError(message, hint="--overlay NAME applies an overlay")
    unresolved: set[KeyPath] = set()
    env: set[str] = set()
    if source.environ is not None:
        interpolation = Interpolation(root, layout, source.environ)
        interpolation.run()
        problems += interpolation.problems
        unresolved, env = interpolation.failed, interpolation.env
    validator = Validator(source.registry)
    model = validator.recipe(root)
    # an unresolved value has no type either: one message is enough
    problems += [problem for problem in validator.problems if problem.path not in unresolved]
    if model is None or problems:
        return ParseResult(None, problems, tuple(known))
    origin = Origin(
        source.path, source.text, tuple(overlays), tuple(source.words), tuple(notes), tuple(sorted(env))
    )
    variants = {overlay: node.plain() for overlay, node in known.items()}
    return ParseResult(_make_recipe(model, origin, variants), problems, tuple(known))


def vary(recipe: Recipe, changes: Mapping[str, Any], *, registry: Registry | None = None) -> Recipe:
    """Return the recipe with other values at some keys, such as `{"flow.couplings": 4}`, and the same name.

    Values act like overrides: another `use` drops the parameters of the component before it.
    """
    known = registry or plugins.registry()
    root = make_node({**recipe.to_dict(), "search": None})
    apply_overrides(root, make_overrides(changes), Layout(root, known))
    validator = Validator(known)
    model = validator.recipe(root)
    source = str(recipe.origin.path or recipe.name)
    raise_problems(validator.problems, source)
    if model is None:
        raise RecipeError(f"{source} is invalid")
    return recipe.model_copy(update={key: getattr(model, key) for key in _VARIABLE_KEYS})


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
    if isinstance(root.value, dict):
        _add_defaults(root.value, kind, defaults or {}, known)
    validator = Validator(known)
    component = validator.component(kind, root)
    raise_problems(validator.problems, source)
    if component is None:
        raise RecipeError(f"{source} is invalid")
    return component


def _add_defaults(
    children: dict[str, Node], kind: Kind, defaults: Mapping[str, Any], registry: Registry
) -> None:
    use = children.get("use")
    try:
        fields = registry.find(kind, str(use.value if use else "")).spec().config.model_fields
    except PluginError:  # reported by the validation, with its place
        return
    for key, value in defaults.items():
        if key not in children and key in fields and fields[key].is_required():
            children[key] = make_node(value)


def _read(text: str, name: str) -> Node:
    root = read_yaml(text, name)
    if root.value is None:
        hint = "start from a bundled recipe: `flowgmm recipes copy digits`"
        raise RecipeError(f"{name} is empty", hint=hint)
    if not isinstance(root.value, dict):
        raise RecipeError(f"{name}:{root.mark.line}  a recipe is a mapping, not {describe(root.plain())}")
    return root


def _make_recipe(model: RecipeModel, origin: Origin, overlays: Mapping[str, Any]) -> Recipe:
    """Add name and origin; in a name from a file, `_` replaces characters unfit for folder names."""
    stem = origin.path.stem if origin.path is not None else ""
    name = model.name or re.sub(r"[^\w.+-]|^[.+-]", "_", stem) or "recipe"
    return Recipe.model_validate({**dict(model), "name": name, "overlays": overlays, "origin": origin})

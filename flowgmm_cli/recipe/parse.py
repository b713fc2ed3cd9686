"""From the text of a recipe to a validated `Recipe`: overlays, overrides, interpolation, validation."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.interpolate import Interpolation
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import Node, describe
from flowgmm_cli.recipe.node import Path as KeyPath
from flowgmm_cli.recipe.overlays import KEY, apply_overlay, require_overlays, take_overlays
from flowgmm_cli.recipe.overrides import apply_overrides
from flowgmm_cli.recipe.problems import Problem, raise_problems
from flowgmm_cli.recipe.schema import Recipe, RecipeModel
from flowgmm_cli.recipe.validate import Validator
from flowgmm_cli.recipe.yaml import read_yaml


@dataclass(frozen=True)
class Source:
    """A recipe as it is written, and the words after it.

    Attributes:
        text: the recipe.
        path: the file it is from.
        words: overrides `key.path=value` or `key.path!`.
        registry: the components.
        environ: environment variables; None = nothing is interpolated.
    """

    text: str
    path: Path
    words: Sequence[str]
    registry: Registry
    environ: Mapping[str, str] | None


@dataclass(frozen=True)
class Examined:
    """What there is to say of a recipe.

    Attributes:
        recipe: None if there are problems.
        problems: all that is wrong.
        known_overlays: the names of the overlays it has.
    """

    recipe: Recipe | None
    problems: list[Problem]
    known_overlays: tuple[str, ...]


def parse(source: Source, overlays: Sequence[str] = ()) -> Recipe:
    """Validate a recipe with the named overlays, applied in this order, and then the words.

    Raises:
        RecipeError: it is invalid; all problems are named.
        PluginError: nothing is wrong but that a component cannot be used.
    """
    examined = examine(source, overlays)
    raise_problems(examined.problems, str(source.path), overlays)
    if examined.recipe is None:
        raise RecipeError(f"{source.path} is invalid")
    return examined.recipe


def examine(source: Source, overlays: Sequence[str] = ()) -> Examined:
    """Do what `parse` does, and return the problems.

    Raises:
        RecipeError: the text cannot be read, it has no such overlay, or a word cannot be applied.
    """
    place = str(source.path)
    root = _read(source.text, place)
    known, problems = take_overlays(root)
    if not problems:
        require_overlays(overlays, known, place)
    layout = Layout(root, source.registry)
    notes: list[str] = []
    for name in overlays:
        if name in known:
            told, misfits = apply_overlay(root, known[name].copy(), layout)
            notes += told
            problems += misfits
    notes += apply_overrides(root, source.words, layout)
    if root.child(KEY) is not None:
        raise RecipeError(
            f"`{KEY}` cannot be changed on the command line", hint="--overlay NAME applies an overlay"
        )
    failed: set[KeyPath] = set()
    env: set[str] = set()
    if source.environ is not None:
        interpolation = Interpolation(root, layout, source.environ)
        interpolation.run()
        problems += interpolation.problems
        failed, env = interpolation.failed, interpolation.env
    validator = Validator(source.registry)
    model = validator.recipe(root)
    # what has no value cannot have the right type either: one message is enough
    problems += [one for one in validator.problems if one.path not in failed]
    recipe = None
    if model is not None and not problems:
        recipe = _recipe(model, source, overlays, known, notes, env)
    return Examined(recipe, problems, tuple(known))


def _read(text: str, place: str) -> Node:
    root = read_yaml(text, place)
    if root.value is None:
        raise RecipeError(
            f"{place} is empty", hint="start from a bundled recipe: `flowgmm recipes copy digits`"
        )
    if not isinstance(root.value, dict):
        raise RecipeError(f"{place}:{root.mark.line}  a recipe is a mapping, not {describe(root.plain())}")
    return root


def _recipe(
    model: RecipeModel,
    source: Source,
    overlays: Sequence[str],
    known: Mapping[str, Node],
    notes: Sequence[str],
    env: set[str],
) -> Recipe:
    return Recipe(
        name=model.name or _name_from(source.path),
        path=source.path,
        text=source.text,
        overlays=tuple(overlays),
        known_overlays=tuple(known),
        overrides=tuple(source.words),
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


def _name_from(path: Path) -> str:
    """A recipe name from its file: characters that folders' names should not have become `_`."""
    return re.sub(r"[^\w.+-]|^[.+-]", "_", path.stem) or "recipe"

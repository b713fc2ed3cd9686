"""Forms of a validated recipe: with other values at some keys, and with references for its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.changes import make_changes
from flowgmm_cli.recipe.interpolate import variable_names
from flowgmm_cli.recipe.node import Node, escape, make_node
from flowgmm_cli.recipe.schema import Recipe, RecipeModel
from flowgmm_cli.recipe.tree import RecipeTree
from flowgmm_cli.recipe.validate import Validator, raise_problems

_VARIABLE_KEYS = ("data", "flow", "prior", "objective", "regularisers", "train", "calibration", "run")
_MIN_HIDDEN = 4  # characters; shorter values would be found everywhere in a message


def vary(recipe: Recipe, changes: Mapping[str, Any], *, registry: Registry | None = None) -> Recipe:
    """Return the recipe with other values at some keys, such as `{"flow.couplings": 4}`, and the same name.

    Values act like overrides: another `use` drops the parameters of the component before it.
    """
    source, known = str(recipe.origin.path or recipe.name), registry or plugins.registry()
    model = _vary(recipe.to_dict(), changes, source, known)
    sections: dict[str, Any] = {key: getattr(model, key) for key in _VARIABLE_KEYS}
    if recipe.origin.stored is not None:
        stored = _vary(recipe.to_stored(), changes, source, known)
        sections["origin"] = replace(recipe.origin, stored=stored)
    return recipe.model_copy(update=sections)


def _vary(values: Mapping[str, Any], changes: Mapping[str, Any], source: str, known: Registry) -> RecipeModel:
    root = make_node({**values, "search": None})
    RecipeTree(root, known).apply_words(make_changes(changes))
    validator = Validator(known)
    model = validator.recipe(root)
    if model is None:
        raise_problems(validator.problems, source)
    return model


def keep_references(
    root: Node, env: Mapping[str, str], registry: Registry
) -> tuple[RecipeModel | None, dict[str, str]]:
    """Validate an interpolated recipe with its references to the variables `env` in the place of values.

    Where a reference is not valid itself, as for a number, the value stays. Return the recipe, or None if
    there is no reference, and the values that it does not have, by their references.
    """
    templates = {}
    for path, node in root.walk():
        if node.template is not None:
            templates[path] = node.template
        elif isinstance(node.value, str) and "${" in node.value:
            templates[path] = escape(node.value)
    while templates:
        tree = root.copy()
        for path, node in list(tree.walk()):
            if path in templates:
                node.value, node.raw = templates[path], None
        validator = Validator(registry)
        model = validator.recipe(tree)
        if model is not None:
            names = variable_names(list(templates.values())) & env.keys()
            return model, {f"${{env:{name}}}": env[name] for name in names if len(env[name]) >= _MIN_HIDDEN}
        refused = {problem.path for problem in validator.problems}
        kept = {
            path: template
            for path, template in templates.items()
            if not any(path[: len(place)] == place or place[: len(path)] == path for place in refused)
        }
        templates = kept if len(kept) < len(templates) else {}
    return None, {}

"""One component by itself, written as in a recipe: `{use: csv, path: other.csv, label: y}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowgmm_cli.api import Component, Kind
from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.plugins import registry as plugins
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.node import Node, node_of
from flowgmm_cli.recipe.problems import raise_problems
from flowgmm_cli.recipe.validate import Validator
from flowgmm_cli.recipe.yaml import read_yaml


def parse_component(
    text: str,
    kind: Kind,
    *,
    source: str,
    defaults: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Component:
    """Read and validate a component.

    Args:
        text: a YAML mapping with `use`.
        kind: what it must be.
        source: what to call the text in messages.
        defaults: values of parameters that it requires and the text leaves out.
        registry: the components; default: this process's.

    Raises:
        RecipeError: the text is no such mapping, or invalid; all problems are named.
        PluginError: nothing is wrong but that the component cannot be used.
    """
    known = registry or plugins.registry()
    root = read_yaml(text, source)
    if isinstance(root.value, dict):
        _fill_in(root.value, kind, defaults or {}, known)
    validator = Validator(known)
    component = validator.component(kind, root)
    raise_problems(validator.problems, source)
    if component is None:
        raise RecipeError(f"{source} is invalid")
    return component


def _fill_in(children: dict[str, Node], kind: Kind, defaults: Mapping[str, Any], registry: Registry) -> None:
    use = children.get("use")
    try:
        fields = registry.find(kind, str(use.value if use else "")).spec().config.model_fields
    except PluginError:  # the validation says so, with the place
        return
    for key, value in defaults.items():
        if key not in children and key in fields and fields[key].is_required():
            children[key] = node_of(value)

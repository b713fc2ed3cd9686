"""Overlays: named variants of a recipe, in the recipe, such as one for machines without a GPU.

    overlays:
      cpu:
        flow.hidden: 32
        train: {epochs: 10}

An entry is applied like an override on the command line, with one difference: a mapping without `use` for a
section or component changes the keys it has and leaves the others. A mapping with `use` is a whole component,
and a list replaces the list before it. `key.path!:` removes a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flowgmm_cli.errors import RecipeError, did_you_mean
from flowgmm_cli.recipe.layout import Layout
from flowgmm_cli.recipe.node import Node, describe
from flowgmm_cli.recipe.overrides import Override, apply_changes, parse_overlay_entry
from flowgmm_cli.recipe.problems import Problem

OVERLAYS_KEY = "overlays"
_NAME = re.compile(r"\w[\w.+-]*")


def pop_overlays(root: Node) -> tuple[dict[str, Node], list[Problem]]:
    """Remove the overlays from a recipe; return them by name, and malformed ones as problems."""
    section = root.value.pop(OVERLAYS_KEY, None) if isinstance(root.value, dict) else None
    if section is None or section.value is None:
        return {}, []
    if not isinstance(section.value, dict):
        message = f"expected a mapping of names to changes, got {describe(section.plain())}"
        return {}, [Problem((OVERLAYS_KEY,), message, section.mark)]
    overlays: dict[str, Node] = {}
    problems: list[Problem] = []
    for name, node in section.value.items():
        if not _NAME.fullmatch(name):
            message = "the name of an overlay has letters, digits, `_`, `-`, `.` and `+` only"
            problems.append(Problem((OVERLAYS_KEY, name), message, node.mark))
        elif not isinstance(node.value, dict):
            message = f"expected a mapping such as `{{train.epochs: 5}}`, got {describe(node.plain())}"
            problems.append(Problem((OVERLAYS_KEY, name), message, node.mark))
        else:
            for _, child in node.walk():
                child.mark = replace(child.mark, overlay=name)
            overlays[name] = node
    return overlays, problems


def require_overlays(names: Sequence[str], known: Mapping[str, Node], source: str) -> None:
    """Raise `RecipeError` if the recipe `source` does not have one of the named overlays."""
    for name in names:
        if name in known:
            continue
        if not known:
            raise RecipeError(f"there is no overlay `{name}`: {source} has no overlays")
        raise RecipeError(
            f"{source} has no overlay `{name}`{did_you_mean(name, known)}; known: {', '.join(known)}",
            hint=f"--overlay {next(iter(known))}",
        )


def apply_overlay(root: Node, overlay: Node, layout: Layout) -> tuple[list[str], list[Problem]]:
    """Apply an overlay to a tree, in place; return notes for the user, and a problem for each failure."""
    changes: list[Override] = []
    problems: list[Problem] = []
    for key, value in (overlay.value if isinstance(overlay.value, dict) else {}).items():
        try:
            change = parse_overlay_entry(key, value)
            if change.path[0] == OVERLAYS_KEY:
                raise RecipeError("an overlay cannot change the overlays")
            changes.append(change)
        except RecipeError as error:
            problems.append(Problem((key,), error.message, value.mark))
    notes, failures = apply_changes(root, changes, layout)
    problems += [Problem(change.path, error.message, change.mark) for change, error in failures]
    return notes, problems

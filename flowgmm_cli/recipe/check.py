"""Checks of a recipe beyond one validation: the candidates of its search, and each of its overlays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from flowgmm_cli.api import DataConfig, ViewSpec
from flowgmm_cli.errors import FlowgmmError, PluginError, RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.node import DEFAULT
from flowgmm_cli.recipe.parse import ParseResult, Source, try_parse, vary
from flowgmm_cli.recipe.problems import Problem, raise_problems
from flowgmm_cli.recipe.schema import Recipe


def check_recipe(source: Source, overlays: Sequence[str] = ()) -> Recipe:
    """Validate a recipe as it would be trained, and with each of its overlays separately.

    With `overlays`, only the recipe that they make is checked. Raises `RecipeError` with the problems of the
    recipe and of all overlays, or `PluginError` if the only ones are components that cannot be used.
    """
    result = try_parse(source, overlays)
    error = _candidate_error(result, source.registry)
    candidate_lines = _lines(error)
    problems = {_key(problem): problem for problem in result.problems}
    for name in () if overlays else result.known_overlays:
        for problem in _overlay_problems(source, name):
            if problem.mark != DEFAULT or problem.message not in candidate_lines:
                problems.setdefault(_key(problem), _with_overlay(problem, name))
    if error is not None and not problems:
        raise error
    all_problems = [*problems.values(), *(Problem((), line, DEFAULT) for line in candidate_lines)]
    raise_problems(all_problems, str(source.path), overlays)
    if result.recipe is None:
        raise RecipeError(f"{source.path} is invalid")
    return result.recipe


def _overlay_problems(source: Source, name: str) -> Iterator[Problem]:
    """Yield the problems of the recipe with one overlay."""
    try:
        result = try_parse(source, [name])
    except RecipeError as error:  # a word cannot be applied after the overlay
        lines = _lines(error)
    else:
        yield from result.problems
        lines = _lines(_candidate_error(result, source.registry))
    yield from (Problem((), line, DEFAULT) for line in lines)


def _key(problem: Problem) -> tuple[Any, ...]:
    """Return the identity of a problem; its cause is another object in each parse."""
    return problem.path, problem.message, problem.mark


def _with_overlay(problem: Problem, overlay: str) -> Problem:
    """Name the overlay in the message of a problem that stands outside of it."""
    if problem.mark.overlay is not None:
        return problem
    return replace(problem, message=f"{problem.message} (with the overlay `{overlay}`)")


def _lines(error: FlowgmmError | None) -> Sequence[str]:
    return () if error is None else error.details or (error.message,)


# --- candidates of the search -----------------------------------------------------------------------------


def check_candidates(recipe: Recipe, registry: Registry) -> None:
    """Raise `RecipeError` if a candidate of the search is not a valid recipe that can be trained."""
    problems: list[str] = []
    views = _early_views(recipe, registry)
    for name, changes in (recipe.search.candidates if recipe.search else {}).items():
        place = f"search.candidates.{name}"
        try:
            candidate_views = _early_views(vary(recipe, changes, registry=registry), registry)
        except (RecipeError, PluginError) as error:
            problems += [f"{place}: {line}" for line in _lines(error)]
            continue
        for side, changed in candidate_views.items():
            if changed and changed != views[side]:
                names = ", ".join(view["use"] for view in changed)
                problems.append(
                    f"{place}: data.views.{side} has {names}, which differ from the recipe's own; views "
                    "before the transforms are prepared once, so a candidate can only leave them out"
                )
    if problems:
        raise RecipeError(f"{recipe.origin.path} has candidates that cannot be trained", details=problems)


def _candidate_error(result: ParseResult, registry: Registry) -> FlowgmmError | None:
    try:
        if result.recipe is not None:
            check_candidates(result.recipe, registry)
    except (PluginError, RecipeError) as error:
        return error
    return None


def _early_views(recipe: Recipe, registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """Return the views of a recipe that act before the transforms, by side."""
    config = recipe.data.config
    sides = (
        {"weak": config.views.weak, "strong": config.views.strong} if isinstance(config, DataConfig) else {}
    )
    return {
        side: [view.to_dict() for view in views if registry.spec(ViewSpec, view.use).level != "features"]
        for side, views in sides.items()
    }

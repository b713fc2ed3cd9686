"""Checks a recipe and, each applied alone, all of its overlays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flowgmm_cli.errors import FlowgmmError, PluginError, RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe.load import check_candidates
from flowgmm_cli.recipe.node import DEFAULT, Mark, Path
from flowgmm_cli.recipe.parse import Source, examine
from flowgmm_cli.recipe.problems import Problem, raise_problems
from flowgmm_cli.recipe.schema import Recipe


def check_recipe(source: Source, overlays: Sequence[str] = ()) -> Recipe:
    """Validate a recipe as it would be trained, and with each of its overlays alone.

    Args:
        source: the recipe and the words after it, which come after the overlays.
        overlays: those to apply; with them, only the recipe that they make is checked.

    Returns:
        The recipe with `overlays`.

    Raises:
        RecipeError: something is invalid; the problems of the recipe and of all overlays are named.
        PluginError: nothing is wrong but that a component cannot be used.
    """
    examined = examine(source, overlays)
    found = {_identity(one): one for one in examined.problems}
    unfit = _unfit(examined.recipe, source.registry)
    seen = set(_lines(unfit))
    for name in () if overlays else examined.known_overlays:
        try:
            varied = examine(source, [name])
        except RecipeError as error:  # a word that fits nowhere once the overlay is applied
            lines = _lines(error)
        else:
            for problem in varied.problems:
                found.setdefault(_identity(problem), _attributed(problem, name))
            lines = _lines(_unfit(varied.recipe, source.registry))
        for line in lines:
            if line not in seen:
                problem = _attributed(Problem((), line, DEFAULT), name)
                found.setdefault(_identity(problem), problem)
    if unfit is not None and not found:
        raise unfit
    problems = [*found.values(), *(Problem((), line, DEFAULT) for line in _lines(unfit))]
    raise_problems(problems, str(source.path), overlays)
    if examined.recipe is None:
        raise RecipeError(f"{source.path} is invalid")
    return examined.recipe


def _identity(problem: Problem) -> tuple[Path, str, Mark]:
    """What makes two problems the same one; the component's error behind them is another object each time."""
    return problem.path, problem.message, problem.mark


def _attributed(problem: Problem, overlay: str) -> Problem:
    """Say that a problem is there with an overlay only, where the words in question are not the overlay's."""
    if problem.mark.overlay is not None:
        return problem
    return replace(problem, message=f"{problem.message} (with the overlay `{overlay}`)")


def _unfit(recipe: Recipe | None, registry: Registry) -> FlowgmmError | None:
    """What is wrong with the candidates of the search."""
    try:
        if recipe is not None:
            check_candidates(recipe, registry)
    except (PluginError, RecipeError) as error:
        return error
    return None


def _lines(error: FlowgmmError | None) -> Sequence[str]:
    return () if error is None else error.details or (error.message,)

"""The points of a study: one validated recipe for each setting and seed, before anything is trained."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from flowgmm_cli.api import DataConfig
from flowgmm_cli.errors import FlowgmmError, PluginError, RecipeError, UsageError
from flowgmm_cli.experiments.grid import Grid
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

SEEDS = ("run.seed", "data.labels.seed")
COUNT = "data.labels.count"
Setting = int | str


@dataclass(frozen=True)
class Point:
    """One run of a study.

    Attributes:
        settings: what tells its group from the others, such as `{"labels": 20}`.
        seed: of training and of the draw of labels.
        recipe: what is trained.
    """

    settings: Mapping[str, Setting]
    seed: int
    recipe: Recipe

    @property
    def group(self) -> str:
        """A folder name for the settings."""
        return group_name(self.settings)

    def describe(self) -> str:
        """For people: `labels=20 seed=0`."""
        return " ".join(f"{key}={value}" for key, value in {**self.settings, "seed": self.seed}.items())


def curve_points(
    name: str,
    words: Sequence[str],
    labels: Sequence[int],
    seeds: Sequence[int],
    *,
    overlays: Sequence[str] = (),
) -> list[Point]:
    """Points of a learning curve: every number of labels with every seed, small numbers first.

    Another way of choosing labelled rows that the recipe has (`per_class`, `fraction`, `column`) is replaced.

    Raises:
        UsageError: a word sets what the curve sets.
        RecipeError: the recipe is invalid.
    """
    _refuse(words, (COUNT, *SEEDS), "curve")
    base = load_recipe(name, words, overlays=overlays)
    budget = cast(DataConfig, base.data.config).labels
    others = [key for key in ("per_class", "fraction", "column") if getattr(budget, key) is not None]
    replaced = [f"data.labels.{key}=null" for key in others]
    return [
        Point(
            {"labels": count},
            seed,
            load_recipe(name, [*words, *replaced, f"{COUNT}={count}", *_seeded(seed)], overlays=overlays),
        )
        for count in sorted(labels)
        for seed in seeds
    ]


def sweep_points(name: str, grid: Grid, seeds: Sequence[int], *, overlays: Sequence[str] = ()) -> list[Point]:
    """Points of a grid: every combination with every seed.

    Raises:
        UsageError: a word sets a seed.
        RecipeError: one or more combinations are invalid; all of them are named.
        PluginError: nothing is wrong but that a component cannot be used.
    """
    _refuse([*grid.fixed, *(f"{axis.key}=" for axis in grid.axes)], SEEDS, "sweep")
    points: list[Point] = []
    problems: dict[str, tuple[FlowgmmError, list[str]]] = {}
    for settings in grid.combinations():
        words = [f"{key}={value}" for key, value in settings.items()]
        try:
            made = [
                load_recipe(name, [*grid.fixed, *words, *_seeded(seed)], overlays=overlays) for seed in seeds
            ]
        except (RecipeError, PluginError) as error:
            text = "\n".join([error.message, *error.details])
            problems.setdefault(text, (error, []))[1].append(" ".join(words))
            continue
        points += [Point(settings, seed, recipe) for seed, recipe in zip(seeds, made, strict=True)]
    _raise(problems, len(grid))
    return points


def group_name(settings: Mapping[str, Setting]) -> str:
    """A folder name that is readable and, where it had to be cut or cleaned, unique by a digest."""
    text = "_".join(f"{key}-{value}" for key, value in settings.items())
    clean = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
    if clean == text and len(text) <= 80:
        return text
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:6]
    return f"{clean[:72].strip('-')}-{digest}"


def _seeded(seed: int) -> list[str]:
    return [f"{key}={seed}" for key in SEEDS]


def _refuse(words: Sequence[str], taken: Sequence[str], command: str) -> None:
    for word in words:
        key = word.partition("=")[0].strip().removesuffix("!")
        if key in taken:
            flag = "--labels" if key == COUNT else "--seeds"
            raise UsageError(
                f"`{word.rstrip('=')}`: {key} is what {command} {flag} sets", hint=f"use {flag} instead"
            )


def _raise(problems: Mapping[str, tuple[FlowgmmError, list[str]]], combinations: int) -> None:
    """Raise what was found: an error of every combination as it is, others with the words that cause them."""
    if not problems:
        return
    errors = [error for error, _ in problems.values()]
    if len(problems) == 1 and len(next(iter(problems.values()))[1]) == combinations:
        raise errors[0]
    details = []
    for error, where in problems.values():
        more = f" (and {len(where) - 1:,} more)" if len(where) > 1 else ""
        details += [f"{where[0]}{more}: {error.message}", *(f"  {detail}" for detail in error.details)]
    bad = sum(len(where) for _, where in problems.values())
    kind = RecipeError if any(isinstance(error, RecipeError) for error in errors) else PluginError
    raise kind(
        f"{bad:,} of {combinations:,} combinations are invalid; nothing was trained",
        details=details,
        hint=errors[0].hint,
    )

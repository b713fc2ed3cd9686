"""The points of an experiment, from the command line to a validated recipe for each setting and seed."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flowgmm_cli.api import DataConfig, DataContext
from flowgmm_cli.errors import DataError, FlowgmmError, PluginError, RecipeError, UsageError, did_you_mean
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowgmm_cli.data.splits import SplitData

MAX_VALUES = 10_000  # a longer list or a larger grid is a typing error

# at the start of a value only: an apostrophe inside a word is no quote
_STRING = r"""(?:^|(?<=[,\[{:]))\s*(?:"(?:\\.|[^"\\])*(?:"|$)|'[^']*(?:'|$))"""
_TOKEN = re.compile(rf"{_STRING}|[\[\]{{}},]", re.DOTALL)
_GRID_HINT = "values are separated by commas: flow.couplings=2,4,6; quote one that holds a comma"


@dataclass(frozen=True)
class ParameterGrid:
    """The arguments of a sweep."""

    fixed: tuple[str, ...]  # overrides of every run, as given
    axes: Mapping[str, Sequence[str]]  # values of the keys that vary, as texts

    def __len__(self) -> int:
        return math.prod(map(len, self.axes.values()))

    def combinations(self) -> Iterator[dict[str, str]]:
        """Yield every combination as key -> value; the last axis varies fastest."""
        for values in itertools.product(*self.axes.values()):
            yield dict(zip(self.axes, values, strict=True))


def read_grid(arguments: Sequence[str]) -> ParameterGrid:
    """Separate arguments into axes and fixed overrides.

    >>> read_grid(["train.epochs=5", "flow.couplings=2,4"])
    ParameterGrid(fixed=('train.epochs=5',), axes={'flow.couplings': ['2', '4']})

    Raises:
        UsageError: no key varies, a value is empty or repeated, a key is repeated, or there are more than
            `MAX_VALUES` combinations.
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        key, values = key.strip(), split_values(text)
        fixed_keys = {word.partition("=")[0].strip() for word in fixed if "=" in word}
        if equals and (key in axes or (len(values) > 1 and key in fixed_keys)):
            raise UsageError(f"`{key}` is given twice", hint=_GRID_HINT)
        if not equals or len(values) == 1:
            fixed.append(argument)
            continue
        if not all(values):
            raise UsageError(f"`{argument}` has an empty value", hint=_GRID_HINT)
        if len(set(values)) < len(values):
            raise UsageError(f"`{argument}` repeats a value", hint=_GRID_HINT)
        axes[key] = values
    grid = ParameterGrid(tuple(fixed), axes)
    if not axes:
        raise UsageError("a sweep varies at least one key", hint=_GRID_HINT)
    if len(grid) > MAX_VALUES:
        raise UsageError(
            f"the grid has {len(grid):,} combinations, more than {MAX_VALUES:,}", hint=_GRID_HINT
        )
    return grid


def split_values(text: str) -> list[str]:
    """Split at the commas outside of quotes and brackets.

    >>> split_values("labelled, 'a,b',[1, 2],{use: x, y: 1}")
    ['labelled', "'a,b'", '[1, 2]', '{use: x, y: 1}']
    """
    parts, start, depth = [], 0, 0
    for match in _TOKEN.finditer(text):
        if match[0] in "[{":
            depth += 1
        elif match[0] in "]}":
            depth -= 1
        elif match[0] == "," and depth <= 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
    return [*parts, text[start:].strip()]


def parse_integers(text: str, flag: str, *, minimum: int = 0) -> list[int]:
    """Parse a list of integers and ranges such as `0..4,7`; ranges include both ends, repeats count once.

    >>> parse_integers("0..2,7", "--seeds")
    [0, 1, 2, 7]

    Raises:
        UsageError: the text is no such list, or a number is below `minimum`; the message names the flag.
    """

    def error(reason: str) -> UsageError:
        hint = f"for example {flag} 0..4, {flag} 20,50,100 or {flag} 3"
        return UsageError(f"{flag} {text}: {reason}", hint=hint)

    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d[\d_]*)\s*(?:\.\.\s*(\d[\d_]*)\s*)?", part, re.ASCII)
        if match is None:
            raise error(f"`{part.strip()}` is neither a number nor a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise error(f"the range `{part.strip()}` runs backwards")
        if last - first >= MAX_VALUES:
            raise error(f"the range `{part.strip()}` has more than {MAX_VALUES:,} numbers")
        if first < minimum:
            raise error(f"{first} is below {minimum}")
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


CHOICES = ("random", "suggest")
"""How the labelled rows of a curve are chosen."""
SEED_KEYS = ("run.seed", "data.labels.seed")
COUNT_KEY = "data.labels.count"
MAX_NAME_LETTERS = 80
SettingValue = int | str


@dataclass(frozen=True)
class Point:
    """A run of an experiment."""

    settings: Mapping[str, SettingValue]  # of its group, such as `{"labels": 20}`
    seed: int  # of training and of the selection of labels
    recipe: Recipe  # the recipe to train

    @property
    def group(self) -> str:
        """A folder name for the settings."""
        return group_name(self.settings)

    def describe(self) -> str:
        """Return text such as `labels=20 seed=0`."""
        return " ".join(f"{key}={value}" for key, value in {**self.settings, "seed": self.seed}.items())


def curve_points(
    name: str,
    overrides: Sequence[str],
    labels: Sequence[int],
    seeds: Sequence[int],
    *,
    overlays: Sequence[str] = (),
    choose: Sequence[str] = (),
    folder: Path | None = None,
) -> list[Point]:
    """Create the points of a learning curve: every number of labels with every seed, small numbers first.

    The number replaces another selection of labelled rows in the recipe (`per_class`, `fraction`, `column`).
    With `choose` there is a point for each of these `CHOICES`: `random` does not balance the classes, and
    `suggest` has a file of labelled rows in `folder`, by default that of the curve.

    Raises:
        UsageError: an override sets a key that the curve sets.
        RecipeError: the recipe is invalid.
    """
    _reject_overrides(overrides, (COUNT_KEY, *SEED_KEYS), "curve")
    base = load_recipe(name, overrides, overlays=overlays)
    selection = cast(DataConfig, base.data.config).labels
    resets = [
        f"data.labels.{key}=null"
        for key in ("per_class", "fraction", "column", "ids")
        if getattr(selection, key) is not None
    ]
    points = []
    for count in sorted(labels):
        words = [*overrides, *resets]
        if not choose:
            points += _create_points(
                {"labels": count}, name, [*words, f"{COUNT_KEY}={count}"], seeds, overlays
            )
        for choice in choose:
            settings: dict[str, SettingValue] = {"labels": count, "choose": choice}
            random = [f"{COUNT_KEY}={count}", "data.labels.balanced=false"]
            for seed in seeds:
                file = (folder or Path("curves", base.name)) / "labels" / f"{count}-seed-{seed}.txt"
                listed = [f"{COUNT_KEY}=null", f"data.labels.ids={json.dumps(str(file))}"]
                own = [*words, *(random if choice == "random" else listed)]
                points += _create_points(settings, name, own, [seed], overlays)
    return points


def parse_choices(text: str | None) -> list[str]:
    """Read the words of `--choose`.

    >>> parse_choices("suggest,random")
    ['suggest', 'random']
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(","))) if text else []
    for name in names:
        if name not in CHOICES:
            raise UsageError(
                f"--choose {text}: there is no `{name}`{did_you_mean(name, CHOICES)}",
                hint="--choose suggest,random",
            )
    return names


def sweep_points(
    name: str, grid: ParameterGrid, seeds: Sequence[int], *, overlays: Sequence[str] = ()
) -> list[Point]:
    """Create the points of a grid: every combination with every seed.

    Raises:
        UsageError: an override sets a seed, or the search of a recipe changes a key of the grid.
        RecipeError: at least one combination is invalid; the message names all of them.
        PluginError: all recipes are valid, but a component cannot be used.
    """
    _reject_overrides([*grid.fixed, *(f"{key}=" for key in grid.axes)], SEED_KEYS, "sweep")
    points: list[Point] = []
    problems: dict[str, tuple[FlowgmmError, list[str]]] = {}
    for settings in grid.combinations():
        words = [f"{key}={value}" for key, value in settings.items()]
        try:
            points += _create_points(settings, name, [*grid.fixed, *words], seeds, overlays)
        except (RecipeError, PluginError) as error:
            text = "\n".join([error.message, *error.details])
            problems.setdefault(text, (error, []))[1].append(" ".join(words))
    if problems:
        raise _combine_errors(list(problems.values()), len(grid))
    _reject_searched_keys(points, grid.axes)
    return points


def _reject_searched_keys(points: Sequence[Point], axes: Iterable[str]) -> None:
    """Raise `UsageError` for a key that candidates of a search would set to their own values."""
    searches = [point.recipe.search for point in points if point.recipe.search is not None]
    searched = {key for search in searches for changes in search.candidates.values() for key in changes}
    for axis, key in itertools.product(axes, sorted(searched)):
        if f"{key}.".startswith(f"{axis}.") or f"{axis}.".startswith(f"{key}."):
            raise UsageError(
                f"the sweep varies `{axis}`, but the search of the recipe sets `{key}`",
                hint="leave the search out: search=null",
            )


def _create_points(
    settings: Mapping[str, SettingValue],
    name: str,
    overrides: Sequence[str],
    seeds: Sequence[int],
    overlays: Sequence[str],
) -> list[Point]:
    points = []
    for seed in seeds:
        words = [*overrides, *(f"{key}={seed}" for key in SEED_KEYS)]
        points.append(Point(settings, seed, load_recipe(name, words, overlays=overlays)))
    return points


def group_name(settings: Mapping[str, SettingValue]) -> str:
    """Return a readable folder name; a digest keeps it unique if the settings do not fit."""
    text = "_".join(f"{key}-{value}" for key, value in settings.items())
    clean = re.sub(r"[^\w.+-]+", "-", text, flags=re.ASCII)
    if clean == text and len(text) <= MAX_NAME_LETTERS:
        return text
    digest = hashlib.sha256(repr(sorted(settings.items())).encode()).hexdigest()[:6]
    return f"{clean[: MAX_NAME_LETTERS - 8].strip('-')}-{digest}"


def _reject_overrides(overrides: Sequence[str], keys: Sequence[str], command: str) -> None:
    for override in overrides:
        key = override.partition("=")[0].strip().removesuffix("!")
        if key in keys:
            flag = "--labels" if key == COUNT_KEY else "--seeds"
            raise UsageError(
                f"`{override.rstrip('=')}`: {command} {flag} sets {key}", hint=f"use {flag} instead"
            )


def _combine_errors(problems: Sequence[tuple[FlowgmmError, list[str]]], combinations: int) -> FlowgmmError:
    """Combine errors with their combinations; an error of all combinations stays as it is."""
    first = problems[0][0]
    invalid = sum(len(words) for _, words in problems)
    if len(problems) == 1 and invalid == combinations:
        return first
    details = []
    for error, words in problems:
        more = f" (and {len(words) - 1:,} more)" if len(words) > 1 else ""
        details += [f"{words[0]}{more}: {error.message}", *(f"  {detail}" for detail in error.details)]
    is_recipe = any(isinstance(error, RecipeError) for error, _ in problems)
    message = f"{invalid:,} of {combinations:,} combinations are invalid; nothing was trained"
    return (RecipeError if is_recipe else PluginError)(message, details=details, hint=first.hint)


def check_data(points: Sequence[Point], context: DataContext) -> None:
    """Load and split the rows of the points with the most and the fewest labels, before hours of training.

    Raises:
        DataError: the data cannot be read, has too few labels for a point, or no rows for its accuracy.
    """
    from flowgmm_cli.data.prepare import load_rows

    points = [point for point in points if point.settings.get("choose") != "suggest"]  # chosen in training
    selection = sorted(points, key=lambda point: point.settings.get("labels", 0), reverse=True)
    has_counts = bool(points) and "labels" in points[0].settings
    for point in selection[:: max(len(points) - 1, 1)] if has_counts else selection[:1]:
        try:
            rows = load_rows(point.recipe.data, context)
        except DataError as error:
            message = f"{point.describe()}: {error.message}"
            raise DataError(message, details=error.details, hint=error.hint) from error
        if rows.test is None and not _has_folds(point.recipe, rows):
            raise no_accuracy(point)


def _has_folds(recipe: Recipe, rows: SplitData) -> bool:
    """Return True if the training holds out labelled rows in folds, so that accuracy is cross-fitted."""
    from flowgmm_cli.evaluation.folds import split_labelled
    from flowgmm_cli.evaluation.temperature import calibration_folds, uses_validation

    labels, calibration, seed = rows.train.labels, recipe.calibration, recipe.run.seed
    if recipe.search:
        return len(split_labelled(labels, recipe.search.folds, seed=seed)) > 1
    if calibration.method == "none" or (rows.val and uses_validation(calibration, rows.val.labels)):
        return False
    return bool(calibration_folds(calibration, labels, seed=seed))


def no_accuracy(point: Point) -> DataError:
    """Return the error for a point without test rows and without folds of the labelled rows."""
    return DataError(
        f"{point.describe()}: accuracy cannot be measured, since there are no test rows, and training holds "
        "out no labelled rows in folds",
        hint="keep test rows: data.split.test=0.2; or cross-fit the labelled rows, of which there must be "
        "several of each class: calibration.method=temperature calibration.on=cross_fit",
    )

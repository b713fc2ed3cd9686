"""From an estimator's parameters to a recipe for rows in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.load import load_recipe, parse_resolved
from flowgmm_cli.recipe.schema import Recipe

SOURCE = "FlowGMMClassifier"
MEMORY: dict[str, Any] = {"use": "arrays", "path": "rows-in-memory"}
"""The data section's source; the rows themselves are handed over, no file is read."""

_FEWEST_STEPS = 100
_STEPS_PER_ROW = 1


def own_recipe(parameters: Mapping[str, Any], *, rows: int) -> dict[str, Any]:
    """The estimator's own recipe, as plain values.

    It is the recipe `csv` without its limit on far values, which would cut off the density.

    Args:
        parameters: of the estimator.
        rows: N; few rows need few steps.
    """
    p = {name: plain(value) for name, value in parameters.items()}
    views = [
        {"use": "noise", "scale": p["noise"]} if p["noise"] else None,
        {"use": "drop", "rate": p["drop"]} if p["drop"] else None,
    ]
    steps = p["max_steps"]
    if p["epochs"] is None:
        steps = min(steps, max(_FEWEST_STEPS, _STEPS_PER_ROW * rows))
    return {
        "version": 1,
        "name": "classifier",
        "data": {
            **MEMORY,
            "split": {"test": 0, "val": 0},
            "transforms": transforms(p["transforms"]),
            "views": {"strong": [view for view in views if view]},
        },
        "flow": {
            "use": "realnvp",
            "couplings": p["couplings"],
            "hidden": p["hidden"],
            "dropout": p["dropout"],
        },
        "prior": {"use": "gmm", "means": p["means"]},
        "objective": {"use": "hybrid", "density": p["density"]},
        "regularisers": [{"use": "consistency", "weight": p["consistency"]}] if p["consistency"] else [],
        "train": {
            "epochs": steps if p["epochs"] is None else p["epochs"],  # a pass has at least one step
            "max_steps": steps,
            "batch_size": p["batch_size"],
            "lr": p["lr"],
        },
    }


def make_recipe(parameters: Mapping[str, Any], *, rows: int, seed: int) -> Recipe:
    """Validate the recipe that the parameters stand for.

    Args:
        parameters: of the estimator.
        rows: N.
        seed: of the run.

    Raises:
        RecipeError: a parameter, the recipe or an override is invalid.
        PluginError: a component cannot be used.
    """
    common: dict[str, Any] = {
        "run.seed": seed,
        "run.device": parameters["device"],
        **plain(dict(parameters["overrides"] or {})),
    }
    if parameters["ensemble"] != 1:
        common["ensemble"] = plain(parameters["ensemble"])
    if parameters["search"]:
        common["search"] = {}
    if not parameters["calibrate"]:
        common["calibration.method"] = "none"
    given = parameters["recipe"]
    overlays = _names(parameters["overlays"])
    words = [f"data.{key}={value}" for key, value in MEMORY.items()]
    words += [f"{key}={_word(value)}" for key, value in common.items()]
    if isinstance(given, str | Path):
        return load_recipe(str(given), words, overlays=overlays)
    if overlays and given is not None:
        return parse_resolved({"version": 1, **plain(given)}, SOURCE, words, overlays=overlays)
    if overlays:
        raise RecipeError("overlays are variants of a recipe, and there is no recipe", hint="give `recipe=`")
    values = own_recipe(parameters, rows=rows) if given is None else dict(plain(given))
    values.setdefault("version", 1)
    values["data"] = {**values.get("data", {}), **MEMORY}
    for key, value in common.items():
        _set(values, key.split("."), value)
    return parse_resolved(values, SOURCE)


def transforms(given: Any) -> list[Any]:
    """The list of transforms that a name, None or a list in recipe form stands for."""
    if given is None:
        return []
    if isinstance(given, str):
        return [{"use": given}]
    return list(given)


def plain(value: Any) -> Any:
    """NumPy's numbers, arrays and tuples as Python's, for YAML and JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def _names(given: Any) -> list[str]:
    """The names that None, one name or a sequence of them stands for."""
    if given is None:
        return []
    return [given] if isinstance(given, str) else [str(one) for one in given]


def _word(value: Any) -> str:
    """A value as the command line would have it; JSON is YAML on one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _set(values: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a key below mappings, which are made where there are none."""
    *parents, last = path
    for key in parents:
        below = values.get(key)
        values[key] = dict(below) if isinstance(below, Mapping) else {}
        values = values[key]
    values[last] = value

"""Recipe of an estimator's parameters, for rows in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flowgmm_cli.api import plain_value
from flowgmm_cli.devices import Engine, create_engine, find_device
from flowgmm_cli.errors import FlowgmmError, RecipeError
from flowgmm_cli.recipe.load import load_recipe, parse_resolved
from flowgmm_cli.recipe.schema import Recipe

SOURCE = "FlowGMMClassifier"
ARRAY: dict[str, Any] = {"use": "arrays", "path": "rows-in-memory"}
"""Source of arrays in the data section; the rows are passed in memory, and no file is read."""
FRAME: dict[str, Any] = {"use": "csv", "path": "rows-in-memory", "label": "(y)"}
"""Source of data frames, in the same way; the name of the label is that of no column."""

_MIN_STEPS = 100


def default_recipe(parameters: Mapping[str, Any], *, rows: int, source: Mapping[str, Any]) -> dict[str, Any]:
    """Return the default recipe of an estimator with these parameters as plain values.

    It is the recipe `csv` without its limit on far values, which would truncate the density.
    Few rows need few steps.
    """
    p = plain_value(parameters)
    strong = [{"use": "noise", "scale": p["noise"]}] if p["noise"] else []
    strong += [{"use": "drop", "rate": p["drop"]}] if p["drop"] else []
    transforms = [{"use": p["transforms"]}] if isinstance(p["transforms"], str) else p["transforms"] or []
    steps = p["max_steps"]
    if p["epochs"] is None:
        steps = min(steps, max(_MIN_STEPS, rows))
    return {
        "version": 1,
        "name": "classifier",
        "data": {
            **source,
            "split": {"test": 0, "val": 0},
            "transforms": list(transforms),
            "views": {"strong": strong},
        },
        "flow": {"use": "realnvp", **{key: p[key] for key in ("couplings", "hidden", "dropout")}},
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


def build_recipe(
    parameters: Mapping[str, Any], *, rows: int, seed: int, source: Mapping[str, Any] = ARRAY
) -> Recipe:
    """Build and validate the recipe of an estimator; `source` is `ARRAY` or `FRAME`.

    Raises:
        RecipeError: a parameter, the recipe or an override is invalid.
        PluginError: a component cannot be used.
    """
    common: dict[str, Any] = {
        "run.seed": seed,
        "run.device": parameters["device"],
        **plain_value(dict(parameters["overrides"] or {})),
    }
    if parameters["ensemble"] != 1:
        common["ensemble"] = plain_value(parameters["ensemble"])
    if parameters["search"]:
        common["search"] = {}
    if not parameters["calibrate"]:
        common["calibration.method"] = "none"
    given = parameters["recipe"]
    overlays = plain_value(parameters["overlays"]) or []
    overlays = [overlays] if isinstance(overlays, str) else [str(name) for name in overlays]
    words = [f"data.{key}={value}" for key, value in source.items()]
    words += [  # JSON is YAML on one line
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in common.items()
    ]
    if isinstance(given, str | Path):
        return load_recipe(str(given), words, overlays=overlays)
    if overlays and given is None:
        raise RecipeError("overlays are variants of a recipe, and there is no recipe", hint="give `recipe=`")
    if given is None:
        values = default_recipe(parameters, rows=rows, source=source)
    else:
        values = {"version": 1, **plain_value(given)}
    values["data"] = {"use": source["use"], **values.get("data", {})}
    return parse_resolved(values, SOURCE, words, overlays=overlays)


def to_value_error(error: FlowgmmError) -> ValueError:
    """Return the same error without places in a file or on a command line."""
    details = [
        line.removeprefix(SOURCE).removesuffix(" (from the command line)").strip() for line in error.details
    ]
    return ValueError("; ".join([error.message, *details]))


def choose_engine(recipe: Recipe, features: int) -> Engine:
    """Choose float32 on a CPU, since `auto` depends on a measurement that may differ between calls."""
    automatic = recipe.train.precision == "auto" and find_device(recipe.run.device).type == "cpu"
    precision = "fp32" if automatic else recipe.train.precision
    return create_engine(device=recipe.run.device, precision=precision, features=features)

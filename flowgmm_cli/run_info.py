"""The file `run.json` of a run: its origin, state and results, checked when it is read."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flowgmm_cli import __version__
from flowgmm_cli.errors import RunError
from flowgmm_cli.files import read_json
from flowgmm_cli.plugins.registry import provenance
from flowgmm_cli.processes import process_info
from flowgmm_cli.recipe.schema import Recipe

SCHEMA = "flowgmm/run/1"
_MAX_BYTES = 2**26
_MAX_LISTED = 8
_PACKAGES = ("torch", "numpy", "scikit-learn", "datasets", "accelerate", "safetensors", "wordllama")


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Component(_Object):
    kind: str
    name: str
    package: str | None = None
    version: str | None = None
    path: str | None = None
    sha256: str | None = None


class _Best(_Object):
    metric: str | None = None  # None if nothing was validated
    value: float | None = None
    epoch: int | None = None


class _Calibration(_Object):
    method: str
    temperature: float
    rows: int = 0
    accuracy: float | None = None
    noise: float | None = None


class _Ood(_Object):
    default: str | None = None
    threshold: float | None = None
    choice: dict[str, dict[str, float | None]] | None = None


class RunInfo(_Object):
    """Keys of `run.json` that a command reads, all of them optional; further keys are allowed."""

    recipe: str | None = None
    overlays: list[str] | None = None
    overrides: list[str] | None = None
    argv: list[str] | None = None
    folder: str | None = None
    status: str | None = None
    error: str | None = None
    created: str | None = None
    ended: str | None = None
    seconds: float | None = None
    pid: int | None = None
    pid_start: int | None = None
    host: str | None = None
    seed: int | None = None
    device: str | None = None
    precision: str | None = None
    fingerprint: str | None = None
    versions: dict[str, str] | None = None
    components: list[_Component] | None = None
    rows: dict[str, int] | None = None
    epochs: float | None = None
    steps: int | None = None
    best: _Best | None = None
    members: list[dict[str, Any]] | None = None
    calibration: _Calibration | None = None
    ood: _Ood | None = None
    test: dict[str, float | None] | None = None
    cross_fitted: dict[str, float | None] | None = None


def read_info(file: Path) -> dict[str, Any]:
    """Read a `run.json`.

    Raises:
        RunError: the file is missing or damaged; the message names the keys that are wrong.
    """
    values = read_json(file, f"run {file.parent}", max_bytes=_MAX_BYTES)
    try:
        RunInfo.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        details = [_describe(problem) for problem in problems[:_MAX_LISTED]]
        more = len(problems) - len(details)
        raise RunError(
            f"run {file.parent} is damaged: {file.name} has values of other types",
            details=[*details, *([f"and {more} more"] if more else [])],
            hint="it was changed by another program; put the file back, or use another run",
        ) from None
    return values


def _describe(problem: Any) -> str:
    key, given = ".".join(map(str, problem["loc"])), repr(problem["input"])
    given = given if len(given) <= 40 else f"{given[:40]}…"
    return f"{key}: {problem['msg'][0].lower()}{problem['msg'][1:]}, it is {given}"


def initial_info(recipe: Recipe, argv: Sequence[str]) -> dict[str, Any]:
    """Return the contents of `run.json` of a new run of this process."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"flowgmm-cli": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "schema": SCHEMA,
        "recipe": recipe.name,
        "recipe_path": str(recipe.origin.path) if recipe.origin.path else None,
        "overlays": list(recipe.origin.overlays),
        "overrides": list(recipe.origin.overrides),
        "environment": list(recipe.origin.env),
        "status": "running",
        "created": timestamp(),
        "updated": timestamp(),
        "seconds": 0.0,
        "argv": list(argv),
        "folder": str(Path.cwd()),
        **process_info(),
        "seed": recipe.run.seed,
        "versions": versions,
        "components": [provenance(component) for component in recipe.components()],
    }


def timestamp() -> str:
    """Return the current time in UTC, as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")

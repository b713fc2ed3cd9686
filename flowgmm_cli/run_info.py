"""The file `run.json` of a run: its origin, state and results, checked when it is read."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from flowgmm_cli import __version__
from flowgmm_cli.files import read_json
from flowgmm_cli.plugins.registry import provenance
from flowgmm_cli.processes import process_info
from flowgmm_cli.recipe.schema import Recipe

SCHEMA = "flowgmm/run/1"
_MAX_BYTES = 2**26
_PACKAGES = ("torch", "numpy", "scikit-learn", "datasets", "accelerate", "safetensors", "wordllama")


class JsonObject(BaseModel):
    """Schema of a JSON object, of which further keys are allowed."""

    model_config = ConfigDict(extra="allow", strict=True)


def _require_equal_keys(table: dict[str, dict[str, float]] | None) -> dict[str, dict[str, float]] | None:
    if table and len({tuple(row) for row in table.values()}) > 1:
        raise ValueError("the rows have different columns")
    return table


class ComponentInfo(JsonObject):
    """Origin of a component."""

    kind: str
    name: str
    package: str | None = None
    version: str | None = None
    path: str | None = None
    sha256: str | None = None


class _Best(JsonObject):
    metric: str | None = None  # None if nothing was validated
    value: float | None = None
    epoch: int | None = None


class CalibrationInfo(JsonObject):
    """Values of a calibration."""

    method: str
    temperature: float
    rows: int = 0
    accuracy: float | None = None
    noise: float | None = None
    nll: float | None = None
    frequency_nll: float | None = None


class OodInfo(JsonObject):
    """Selection of the default out-of-distribution score, and its threshold."""

    default: str
    threshold: float
    fpr: float | None = None
    held_out_rows: int = 0
    choice: Annotated[dict[str, dict[str, float]] | None, AfterValidator(_require_equal_keys)] = None


class UnknownInfo(JsonObject):
    """Estimated share of rows of unknown kinds among the unlabelled rows, with its 90 % interval."""

    share: float
    low: float
    high: float
    components: Annotated[int, Field(ge=0)] = 0  # number of unknown kinds


class StartInfo(JsonObject):
    """A run that a training went on from, perhaps with the one before it; see `Run.reference`."""

    run: str
    fingerprint: str | None = None
    weights: str | None = None
    start: StartInfo | None = Field(None, alias="from")


class RunInfo(JsonObject):
    """Keys of `run.json` that a command reads, all of them optional; further keys are allowed."""

    recipe: str | None = None
    start: StartInfo | None = Field(None, alias="from")
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
    components: list[ComponentInfo] | None = None
    rows: dict[str, int] | None = None
    epochs: float | None = None
    steps: int | None = None
    best: _Best | None = None
    members: list[dict[str, Any]] | None = None
    calibration: CalibrationInfo | None = None
    ood: OodInfo | None = None
    unknown: UnknownInfo | None = None
    test: dict[str, float | None] | None = None
    cross_fitted: dict[str, float | None] | None = None
    warnings: list[dict[str, Any]] | None = None
    card: str | None = None  # SHA-256 digest of the model card as it was written


def read_info(file: Path) -> dict[str, Any]:
    """Read a `run.json`.

    Raises:
        RunError: the file is missing or damaged; the message names the keys that are wrong.
    """
    return read_json(file, f"run {file.parent}", schema=RunInfo, max_bytes=_MAX_BYTES)


def initial_info(recipe: Recipe, argv: Sequence[str]) -> dict[str, Any]:
    """Return the contents of `run.json` of a new run of this process."""
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
        "versions": {
            "flowgmm-cli": __version__,
            "python": platform.python_version(),
            **package_versions(_PACKAGES),
        },
        "components": [provenance(component) for component in recipe.components()],
    }


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def timestamp() -> str:
    """Return the current time in UTC, as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")

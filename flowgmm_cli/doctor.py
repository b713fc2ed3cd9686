"""An examination of the surroundings: versions, devices, folders, plugins."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from flowgmm_cli import __version__
from flowgmm_cli.data.cache import user_cache_dir
from flowgmm_cli.plugins.registry import registry

PACKAGES = (
    "torch", "typer", "rich", "pyyaml", "datasets", "entrypoints", "pydantic", "safetensors", "scikit-learn",
    "accelerate", "wordllama", "matplotlib", "numpy", "sentence-transformers",
)  # fmt: skip
_LITTLE = 2 * 1024**3


@dataclass(frozen=True)
class Examination:
    """What was found.

    Attributes:
        facts: name -> value, in reading order.
        problems: what may keep flowgmm from working, one line each.
    """

    facts: dict[str, str]
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def examine() -> Examination:
    """Look at this machine. Nothing is written but a probe file that is removed again."""
    facts = {
        "flowgmm": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    problems = [f"{name} is not installed" for name in PACKAGES[:-1] if facts[name] == "not installed"]
    facts |= _devices()
    cache = user_cache_dir()
    hub = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    facts |= {
        "embedding cache": str(cache),
        "hub cache": str(hub),
        "offline": "yes" if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0") else "no",
    }
    problems += [line for folder in (Path.cwd(), cache) if (line := _unusable(folder))]
    known = registry()
    states = [
        f"{entry.kind} {entry.name}: {entry.state}: {entry.problem}"
        for entry in (one.inspect() for one in known.entries())
        if entry.state not in ("ok", "disabled")
    ]
    problems += [*states, *map(str, known.problems)]
    facts["plugins"] = str(sum(not entry.builtin for entry in known.entries()))
    return Examination(facts, tuple(problems))


def _devices() -> dict[str, str]:
    try:
        import torch
    except ImportError as error:
        return {"devices": f"torch cannot be imported: {error}"}
    from flowgmm_cli.devices import find_device
    from flowgmm_cli.training.engine import bf16_pays

    device = find_device("auto")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "devices": ", ".join(["cpu", *names, *(["mps"] if torch.backends.mps.is_available() else [])]),
        "device under auto": str(device),
        "bf16 under auto": "yes" if bf16_pays(device) else "no",
        "threads": str(torch.get_num_threads()),
    }


def _unusable(folder: Path) -> str | None:
    """Why files cannot be written below `folder`, or None."""
    place = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        return f"{folder} cannot be written"
    free = shutil.disk_usage(place).free
    return f"{folder} has only {free / 1024**2:,.0f} MiB left" if free < _LITTLE else None

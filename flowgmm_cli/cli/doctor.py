"""`flowgmm doctor`: versions, devices, folders and plugins of this machine, and problems with them."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated

from flowgmm_cli.cli import options, output
from flowgmm_cli.errors import GateError
from flowgmm_cli.formatting import pluralise

PACKAGES = (
    "torch", "typer", "rich", "pyyaml", "datasets", "entrypoints", "pydantic", "safetensors", "scikit-learn",
    "accelerate", "wordllama", "matplotlib", "numpy", "sentence-transformers",
)  # fmt: skip
_OPTIONAL = "sentence-transformers"
_MIN_FREE_BYTES = 2 * 1024**3


def doctor(
    strict: Annotated[bool, options.option("--strict", "Exit with 7 if there is a problem.")] = False,
    as_json: options.Json = False,
) -> None:
    """Report versions, devices, folders and plugin problems, to read or to paste into an issue."""
    facts, problems = inspect_machine()
    if as_json:
        output.print_json({"schema": "flowgmm/doctor/1", "facts": facts, "problems": problems})
    else:
        output.print_table(["item", "value"], list(facts.items()))
        if problems:
            output.print_text("")
            output.print_table(["problem"], [[problem] for problem in problems])
        else:
            output.note("no problems")
    if strict and problems:
        raise GateError(pluralise(len(problems), "problem"), details=problems)


def inspect_machine() -> tuple[dict[str, str], list[str]]:
    """Return facts by name, in reading order, and problems that may keep flowgmm from working."""
    from flowgmm_cli import __version__
    from flowgmm_cli.data.cache import user_cache_dir
    from flowgmm_cli.plugins.registry import registry
    from flowgmm_cli.run_info import package_versions

    facts = {
        "flowgmm": __version__,
        "python": f"{platform.python_version()} ({sys.executable})",
        "system": platform.platform(),
        "processors": str(os.cpu_count()),
    }
    versions = dict.fromkeys(PACKAGES, "not installed") | package_versions(PACKAGES)
    facts |= versions | _devices()
    cache = user_cache_dir()
    facts |= {
        "embedding cache": str(cache),
        "hub cache": str(Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()),
        "offline": "yes" if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0") else "no",
    }
    missing = [name for name, version in versions.items() if version == "not installed"]
    problems = [f"{name} is not installed" for name in missing if name != _OPTIONAL]
    problems += [problem for folder in (Path.cwd(), cache) if (problem := _folder_problem(folder))]
    known = registry()
    for entry in (entry.inspect() for entry in known.entries()):
        if entry.state not in ("ok", "disabled"):
            problems.append(f"{entry.kind} {entry.name}: {entry.state}: {entry.problem}")
    problems += map(str, known.problems)
    facts["plugins"] = str(sum(not entry.builtin for entry in known.entries()))
    return facts, problems


def _devices() -> dict[str, str]:
    try:
        import torch
    except ImportError as error:
        return {"devices": f"torch cannot be imported: {error}"}
    from flowgmm_cli.devices import bf16_is_faster, find_device

    device = find_device("auto")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "devices": ", ".join(["cpu", *names, *(["mps"] if torch.backends.mps.is_available() else [])]),
        "device under auto": str(device),
        "bf16 under auto": "yes" if bf16_is_faster(device) else "no",
        "threads": str(torch.get_num_threads()),
    }


def _folder_problem(folder: Path) -> str | None:
    """Return a reason why files cannot be written below `folder`, or None."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        return f"{folder} cannot be written"
    free = shutil.disk_usage(existing).free
    return f"{folder} has only {free / 1024**2:,.0f} MiB left" if free < _MIN_FREE_BYTES else None

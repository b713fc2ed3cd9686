"""Local modules: plugins in a file, `--plugin-module my_flow.py`, for code that is not a package yet.

The file is imported under a private module name. Every spec in it is a component; its name in recipes is the
name of the variable in lower case. A spec's `build` may name the module by the file's stem
(`my_flow:build`), as in a package, or by `f"{__name__}:build"`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from flowgmm_cli.api import Spec
from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.entry import SPEC_TYPES, Entry, normalise, plugin_code

VARIABLE = "FLOWGMM_PLUGIN_MODULES"
"""Environment variable with files to load, separated as in PATH; `--plugin-module` adds to it."""

FLAG = "--plugin-module"
_digests: dict[str, str] = {}  # hashes of the loaded files, by module name


def local_files(value: str | None = None) -> list[Path]:
    """Return the files that FLOWGMM_PLUGIN_MODULES (or `value`) names, absolute, each once."""
    text = os.environ.get(VARIABLE, "") if value is None else value
    parts = [part for part in text.split(os.pathsep) if part.strip()]
    return list(dict.fromkeys(Path(part).expanduser().absolute() for part in parts))


def load_file(path: str | Path) -> list[Entry]:
    """Import a file and return its components; their package is the normalised name of the file.

    Raises:
        PluginError: the file does not exist, cannot be imported, or has no spec.
    """
    file = Path(path).expanduser().absolute()
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise PluginError(
            f"the plugin module {path} cannot be read: {error.strerror or error}",
            hint=f"{FLAG} takes a Python file that defines a FlowSpec, DataSpec, ...",
        ) from error
    # the private module name is the same in every process
    key = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    name = f"_flowgmm_local_{key}_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"
    module = sys.modules.get(name)
    if module is None or _digests.get(name) != digest:
        module, _digests[name] = _import(file, name), digest
    entries = [
        Entry(
            kind,
            attribute.lower(),
            normalise(file.name),
            None,
            f"{name}:{attribute}",
            summary=spec.summary,
            path=str(file),
            digest=digest,
        )
        for attribute, spec in vars(module).items()
        if isinstance(spec, Spec) and not attribute.startswith("_")
        for kind, spec_type in SPEC_TYPES.items()
        if type(spec) is spec_type
    ]
    if not entries:
        raise PluginError(
            f"the plugin module {path} defines no component",
            hint="assign a FlowSpec, DataSpec or another spec of flowgmm_cli.api to a variable of it",
        )
    return entries


def _import(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"the plugin module {file} is no Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks types up there
    try:
        with plugin_code(f"the plugin module {file} cannot be imported"):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module

"""Plugins in a file of your own: `--plugin-module my_flow.py`, for work that is not a package yet.

The file is loaded under a private module name. Every spec in it is a component; its name in recipes is the
variable's, in lower case. A spec's `build` may name the file's own module by the file's stem
(`my_flow:build`), as it will when the file becomes a package, or as `f"{__name__}:build"`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from flowgmm_cli.api import Spec
from flowgmm_cli.errors import PluginError

VARIABLE = "FLOWGMM_PLUGIN_MODULES"
"""Environment variable with files to load, separated as in PATH; `--plugin-module` adds to it."""

FLAG = "--plugin-module"


@dataclass(frozen=True)
class LocalSpec:
    """A spec found in a file.

    Attributes:
        name: its name in recipes.
        attribute: the variable that holds it.
        spec: the spec.
    """

    name: str
    attribute: str
    spec: Spec


@dataclass(frozen=True)
class LocalModule:
    """A loaded file.

    Attributes:
        path: the file, absolute.
        module: the private name under which it is imported.
        digest: SHA-256 of its content, in hexadecimal.
        specs: the specs in it.
    """

    path: Path
    module: str
    digest: str
    specs: tuple[LocalSpec, ...]

    @property
    def package(self) -> str:
        """What stands in for a distribution's name: that of the file, normalised."""
        return re.sub(r"[-_.]+", "-", self.path.name).lower()


def given_files(value: str | None = None) -> list[Path]:
    """The files that FLOWGMM_PLUGIN_MODULES (or `value`) names, absolute, each once."""
    text = os.environ.get(VARIABLE, "") if value is None else value
    parts = [part for part in text.split(os.pathsep) if part.strip()]
    return list(dict.fromkeys(Path(part).expanduser().absolute() for part in parts))


def load_file(path: str | Path) -> LocalModule:
    """Import a file and collect its specs.

    Raises:
        PluginError: there is no such file, it cannot be imported, or it holds no spec.
    """
    file = Path(path).expanduser().absolute()
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise PluginError(
            f"the plugin module {path} cannot be read: {error.strerror or error}",
            hint=f"{FLAG} takes a Python file that defines a FlowSpec, DataSpec, ...",
        ) from error
    name = module_name(file)
    module = sys.modules.get(name)
    if module is None or getattr(module, "__flowgmm_digest__", None) != digest:
        module = _import(file, name, digest)
    specs = tuple(
        LocalSpec(attribute.lower(), attribute, value)
        for attribute, value in vars(module).items()
        if isinstance(value, Spec) and not attribute.startswith("_")
    )
    if not specs:
        raise PluginError(
            f"the plugin module {path} defines no component",
            hint="assign a FlowSpec, DataSpec, RegulariserSpec, EncoderSpec or ScoreSpec to a variable of it",
        )
    return LocalModule(file, name, digest, specs)


def module_name(file: Path) -> str:
    """The private module name of a file; the same in every process."""
    key = hashlib.sha256(str(file).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return f"_flowgmm_local_{key}_{re.sub(r'[^A-Za-z0-9_]', '_', file.stem)}"


def _import(file: Path, name: str, digest: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(name, file)
    if found is None or found.loader is None:
        raise PluginError(f"the plugin module {file} is no Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # pydantic looks types up there
    try:
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise PluginError(
            f"the plugin module {file} cannot be imported",
            details=[reason],
            hint="see the whole traceback with FLOWGMM_TRACEBACK=1",
        ) from error
    setattr(module, "__flowgmm_digest__", digest)  # noqa: B010 - a mark of ours on a foreign module
    return module

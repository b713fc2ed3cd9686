"""A component that recipes can name: its origin, its state and its spec."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NoReturn

from flowgmm_cli.api import (
    API_VERSION,
    BaselineSpec,
    Config,
    DataConfig,
    DataSpec,
    EncoderSpec,
    FlowSpec,
    ObjectiveSpec,
    PriorSpec,
    RegulariserConfig,
    RegulariserSpec,
    ScoreSpec,
    Spec,
    TransformSpec,
    ViewSpec,
)
from flowgmm_cli.errors import PluginError

State = Literal["ok", "disabled", "conflict", "incompatible", "broken"]

CORE = "flowgmm-cli"
"""The distribution that holds the built-in components."""

SUPPORTED_API = range(max(1, API_VERSION - 1), API_VERSION + 1)

SPEC_TYPES: dict[str, type[Spec]] = {
    "flow": FlowSpec,
    "prior": PriorSpec,
    "objective": ObjectiveSpec,
    "regulariser": RegulariserSpec,
    "data": DataSpec,
    "transform": TransformSpec,
    "view": ViewSpec,
    "encoder": EncoderSpec,
    "score": ScoreSpec,
    "baseline": BaselineSpec,
}
"""Kind -> the type its specs have; the order is the order of listings."""

SHARED_CONFIGS: dict[str, type[Config]] = {"data": DataConfig, "regulariser": RegulariserConfig}
"""Kind -> the model that the parameters of all components of that kind extend."""


def normalise(package: str) -> str:
    """Return a distribution's name in the spelling of PEP 503.

    >>> normalise("FlowGMM_nsf")
    'flowgmm-nsf'
    """
    return re.sub(r"[-_.]+", "-", package).lower()


class _IncompatibleError(PluginError):
    """The plugin was written for another version of the plugin API."""


@dataclass(frozen=True)
class Entry:
    """A component that recipes can name."""

    kind: str
    name: str
    package: str  # its distribution; `flowgmm-cli` for built-ins
    version: str | None  # the distribution's version, if known
    target: str  # the target of its entry point
    # `ok`, or the reason why a recipe cannot use it by its bare name. Before a plugin is loaded only
    # `disabled` and `conflict` are known; `inspect` finds the others.
    state: State = "ok"
    summary: str = ""  # the spec's one line; empty until a plugin's spec is loaded
    problem: str = ""  # the reason for a state other than `ok`, for people
    path: str = ""  # the file of a local module (`--plugin-module`); else empty
    digest: str = ""  # SHA-256 of that file
    loaded: Spec | None = field(default=None, repr=False, compare=False)

    @property
    def builtin(self) -> bool:
        """True if it is part of flowgmm."""
        return self.package == CORE

    @property
    def qualified(self) -> str:
        """The unambiguous name: `package/name`."""
        return f"{self.package}/{self.name}"

    @property
    def label(self) -> str:
        """The kind, the name and the origin, for people."""
        return f"{self.kind} `{self.name}` from {self.origin}"

    @property
    def origin(self) -> str:
        """The package and its version, for people."""
        if self.builtin:
            return "built in"
        if self.path:
            return Path(self.path).name
        return f"{self.package} {self.version}" if self.version else self.package

    def spec(self) -> Spec:
        """Import and check the spec.

        Raises:
            PluginError: it cannot be imported, is not a spec, or speaks another version of the plugin API.
        """
        if self.loaded is not None:
            return self.loaded
        spec = load_target(self.target, self.label)
        if isinstance(spec, Spec) and spec.api not in SUPPORTED_API:
            raise _IncompatibleError(
                f"{self.label} is written for plugin API {spec.api}; this flowgmm speaks {API_VERSION}",
                hint=f"install a version of {self.package} that fits, or a newer flowgmm",
            )
        reason = self._defect(spec)
        if reason:
            hint = f"tell the authors of {self.package}, or set FLOWGMM_DISABLE_PLUGINS={self.package}"
            raise PluginError(f"{self.label} is broken: {self.target} {reason}", hint=hint)
        valid: Spec = spec
        return valid

    def load_build(self) -> Any:
        """Import the target of the spec's `build`.

        Raises:
            PluginError: it cannot be imported.
        """
        module, colon, attribute = self.spec().build.partition(":")
        if self.path and module == Path(self.path).stem:
            module = self.target.partition(":")[0]  # the file is imported under a private name
        return load_target(f"{module}{colon}{attribute}", self.label)

    def inspect(self) -> Entry:
        """Return this entry with its spec loaded and `state`, `summary` and `problem` filled in.

        A disabled plugin is never imported.
        """
        if self.state == "disabled" or self.loaded is not None:
            return self
        try:
            spec = self.spec()
        except _IncompatibleError as error:
            return replace(self, state="incompatible", problem=error.message)
        except PluginError as error:
            return replace(self, state="broken", problem=error.message)
        return replace(self, summary=spec.summary, loaded=spec)

    def _defect(self, spec: Any) -> str | None:
        expected = SPEC_TYPES[self.kind]
        if not isinstance(spec, expected):
            return f"is a `{type(spec).__name__}`, not a `{expected.__name__}`"
        base = SHARED_CONFIGS.get(self.kind, Config)
        if not (isinstance(spec.config, type) and issubclass(spec.config, base)):
            return f"has a `config` that does not extend `{base.__name__}`"
        if "use" in spec.config.model_fields:
            return "has a parameter `use`, which recipes need for the component's name"
        return None


def load_target(target: str, what: str) -> Any:
    """Import `package.module:attribute`; `what` is the component's name in errors.

    Raises:
        PluginError: the import failed in any way, also by `sys.exit()`.
    """
    module_name, _, attribute = target.partition(":")
    with plugin_code(f"{what} cannot be loaded: importing {target} failed"):
        value: Any = import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    return value


@contextmanager
def plugin_code(message: str, *allowed: type[Exception]) -> Iterator[None]:
    """Run code of a plugin, whose output goes to stderr; its `allowed` errors pass.

    Raises:
        PluginError: it raised another error, tried to end the process, or closed a standard stream.
    """
    process, exit_process = os.getpid(), os._exit

    def refuse(status: int) -> NoReturn:
        if os.getpid() != process:  # a child of the plugin
            exit_process(status)
        raise SystemExit(f"os._exit({status})")

    setattr(os, "_exit", refuse)  # noqa: B010 - for mypy, a function is no variable
    try:
        with redirect_stdout(sys.stderr):
            yield
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, *allowed)):
            raise
        raise import_error(message, error) from error
    finally:
        setattr(os, "_exit", exit_process)  # noqa: B010
        closed = [number for number, name in ((1, "stdout"), (2, "stderr")) if _reopen(name, number)]
    if closed:
        raise import_error(message, OSError("it closed a standard stream"))


def _reopen(name: str, number: int) -> bool:
    """Open a standard stream again if its object is closed; the file itself is not."""
    if not getattr(sys, name).closed:
        return False
    stream = open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    setattr(sys, name, stream)
    return True


def import_error(message: str, error: BaseException) -> PluginError:
    """Make the error for code of a plugin that cannot be imported."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    hint = "see the whole traceback with FLOWGMM_TRACEBACK=1"
    return PluginError(message, details=[reason], hint=hint)

"""All components by kind and name: built-in ones, those of installed plugins, and local modules.

Built-in names come first and cannot be shadowed. A name that two packages offer is a conflict; `package/name`
resolves it. `FLOWGMM_DISABLE_PLUGINS=all` or `=package,package` switches plugins off;
`FLOWGMM_PLUGIN_MODULES` names the user's own files to load (see `local.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NoReturn, TypeVar

from flowgmm_cli import __version__
from flowgmm_cli.api import Component, Spec
from flowgmm_cli.errors import FlowgmmError, PluginError, did_you_mean
from flowgmm_cli.plugins.discovery import discover
from flowgmm_cli.plugins.entry import CORE, SPEC_TYPES, Entry, load_target, normalise, plugin_code
from flowgmm_cli.plugins.local import load_file, local_files

S = TypeVar("S", bound=Spec)

_SPEC_TABLES = {
    "flow": "flowgmm_cli.flows.specs:SPECS",
    "prior": "flowgmm_cli.mixture.specs:SPECS",
    "objective": "flowgmm_cli.objectives.specs:SPECS",
    "regulariser": "flowgmm_cli.regularisers.specs:SPECS",
    "view": "flowgmm_cli.views.specs:SPECS",
    "data": "flowgmm_cli.data.specs:SPECS",
    "transform": "flowgmm_cli.data.specs:TRANSFORMS",
    "score": "flowgmm_cli.scores.specs:SPECS",
    "encoder": "flowgmm_cli.encoders.specs:SPECS",
    "baseline": "flowgmm_cli.baselines.specs:SPECS",
}


class Builtins(Mapping[str, Mapping[str, Spec]]):
    """The built-in components: kind -> name -> spec. A kind's module is imported on first use."""

    def __getitem__(self, kind: str) -> Mapping[str, Spec]:
        table: Mapping[str, Spec] = load_target(_SPEC_TABLES[kind], f"built-in {kind}")
        return table

    def __iter__(self) -> Iterator[str]:
        return iter(_SPEC_TABLES)

    def __len__(self) -> int:
        return len(_SPEC_TABLES)


class Registry:
    """Every component that can be named.

    Args:
        builtins: kind -> name -> spec.
        installed: components and recipe folders of installed plugins, and components of the user's own files.
        problems: errors of the discovery, one line each.
        disabled: `all`, or package names separated by commas.
    """

    def __init__(
        self,
        builtins: Mapping[str, Mapping[str, Spec]],
        installed: Iterable[Entry] = (),
        *,
        problems: Iterable[str] = (),
        disabled: str = "",
    ) -> None:
        self.problems = tuple(problems)
        self._builtins = builtins
        self._installed = sorted(installed, key=lambda entry: (entry.name, entry.package))
        self._disabled = {normalise(name.strip()) for name in disabled.split(",") if name.strip()}
        self._plugins: dict[str, list[Entry]] = {}

    def entries(self, kind: str | None = None) -> list[Entry]:
        """List the entries of a kind, or all: built-ins first, then plugins by name. Loads no plugin."""
        if kind is None:
            return [entry for each in SPEC_TYPES for entry in self.entries(each)]
        builtins = [
            Entry(kind, name, CORE, __version__, spec.build, summary=spec.summary, loaded=spec)
            for name, spec in self._builtins.get(kind, {}).items()
        ]
        return [*builtins, *self._plugin_entries(kind)]

    @property
    def recipes(self) -> list[Entry]:
        """The recipe folders of installed plugins."""
        return [self._disable(entry) for entry in self._installed if entry.kind == "recipe"]

    def with_spec(self, kind: str, name: str, spec: Spec, *, plugins: bool = True) -> Registry:
        """Return this registry with a further built-in spec, and without plugins if `plugins` is false."""
        specs = {**self._builtins, kind: {**self._builtins.get(kind, {}), name: spec}}
        if not plugins:
            return Registry(specs)
        return Registry(specs, self._installed, disabled=",".join(self._disabled))

    def find(self, kind: str, use: str) -> Entry:
        """Return the entry of a bare name or `package/name`, with its spec loaded.

        Raises:
            PluginError: the name is unknown, offered by several packages, switched off, or its plugin is
                broken or incompatible.
        """
        entry = self._pick(kind, use)
        spec = entry.spec()
        return replace(entry, state="ok", problem="", summary=spec.summary, loaded=spec)

    def spec(self, spec_type: type[S], use: str) -> S:
        """Return the spec of a component whose kind has specs of this type; see `find`."""
        kind = next(kind for kind, known in SPEC_TYPES.items() if known is spec_type)
        spec = self.find(kind, use).spec()
        if not isinstance(spec, spec_type):
            raise TypeError(f"{kind} `{use}` has a {type(spec).__name__}")
        return spec

    def build(self, component: Component, *args: Any, **kwargs: Any) -> Any:
        """Import the spec's `build` target and call it with the component's config, `args` and `kwargs`."""
        entry = self.find(component.kind, component.use)
        build = entry.load_build()
        if entry.builtin:
            return build(component.config, *args, **kwargs)
        with plugin_code(f"{entry.label} could not be built", FlowgmmError):
            return build(component.config, *args, **kwargs)

    def provenance(self, component: Component) -> dict[str, Any]:
        """Return the origin of a component as JSON values for `run.json` and `model.json`."""
        entry = self.find(component.kind, component.use)
        origin: dict[str, Any] = {key: getattr(entry, key) for key in ("kind", "name", "package", "version")}
        origin["api"] = entry.spec().api
        return {**origin, "path": entry.path, "sha256": entry.digest} if entry.path else origin

    def _disable(self, entry: Entry) -> Entry:
        """Return the entry with its state if `FLOWGMM_DISABLE_PLUGINS` names its package."""
        if not self._disabled & {"all", entry.package}:
            return entry
        return replace(entry, state="disabled", problem="switched off by FLOWGMM_DISABLE_PLUGINS")

    def _plugin_entries(self, kind: str) -> list[Entry]:
        if kind not in self._plugins:
            entries = [self._disable(entry) for entry in self._installed if entry.kind == kind]
            self._plugins[kind] = [self._with_state(entry, entries) for entry in entries]
        return self._plugins[kind]

    def _with_state(self, entry: Entry, entries: list[Entry]) -> Entry:
        same = [other for other in entries if other.name == entry.name and other.state != "disabled"]
        rivals = [other.origin for other in same if other != entry]
        if entry.state == "disabled":
            return entry
        if entry.name in self._builtins.get(entry.kind, {}):
            problem = f"a built-in has this name; write `use: {entry.qualified}`"
        elif rivals:
            problem = f"also offered by {', '.join(rivals)}"
        else:
            return entry
        return replace(entry, state="conflict", problem=problem)

    def _pick(self, kind: str, use: str) -> Entry:
        package, _, name = use.rpartition("/")
        entries = self.entries(kind)
        named = [entry for entry in entries if entry.name == name]
        if package:
            named = [entry for entry in named if entry.package == normalise(package)]
        elif named and named[0].builtin:
            return named[0]
        active = [entry for entry in named if entry.state != "disabled"]
        if len(active) == 1:
            return active[0]
        if active:
            packages = ", ".join(entry.origin for entry in active)
            raise PluginError(
                f"{kind} `{name}` is offered by several packages: {packages}",
                hint="write " + " or ".join(f"`use: {entry.qualified}`" for entry in active),
            )
        if named:
            raise_disabled(f"{kind} `{use}` from {named[0].origin}")
        raise _unknown_error(kind, use, entries, self.problems)


@cache
def registry() -> Registry:
    """Return the registry of this process: built-ins, installed plugins and local modules.

    A local module that cannot be loaded is one of its `problems`; only recipes that use it fail.
    """
    discovery = discover()
    disabled = os.environ.get("FLOWGMM_DISABLE_PLUGINS", "")
    entries = list(discovery.entries)
    problems = list(discovery.problems)
    for file in local_files():
        if "all" in [name.strip() for name in disabled.split(",")]:
            problems.append(f"{file} is not loaded: FLOWGMM_DISABLE_PLUGINS switches all plugins off")
            continue
        try:
            entries += load_file(file)
        except PluginError as error:
            problems.append("; ".join([error.message, *error.details]))
    return Registry(Builtins(), entries, problems=problems, disabled=disabled)


def build(component: Component, *args: Any, **kwargs: Any) -> Any:
    """Build a component of this process's registry; see `Registry.build`.

    Raises:
        PluginError: the component's plugin cannot be imported, or fails.
    """
    return registry().build(component, *args, **kwargs)


def provenance(component: Component) -> dict[str, Any]:
    """Return the origin of a component of this process's registry; see `Registry.provenance`."""
    return registry().provenance(component)


def raise_disabled(subject: str) -> NoReturn:
    """Raise the error for a component that is switched off."""
    hint = "unset FLOWGMM_DISABLE_PLUGINS, or leave that package out of it"
    raise PluginError(f"{subject} is switched off by FLOWGMM_DISABLE_PLUGINS", hint=hint)


def _unknown_error(kind: str, use: str, entries: list[Entry], problems: Sequence[str]) -> PluginError:
    usable = [entry for entry in entries if entry.state != "disabled"]
    names = list(dict.fromkeys(entry.name for entry in usable))
    guess = did_you_mean(use, [*names, *(entry.qualified for entry in usable)])
    return PluginError(
        f"unknown {kind} `{use}`{guess}",
        details=[f"known: {', '.join(names) or 'none'}", *problems],
        hint=f"`flowgmm plugins list --kind {kind}` shows them all; others come with `pip install`",
    )

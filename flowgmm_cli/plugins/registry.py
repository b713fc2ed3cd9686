"""All components by kind and name; resolves what a recipe names and builds it.

Built-in names always win and cannot be shadowed. Two packages that offer the same name are a conflict, which
`package/name` settles. `FLOWGMM_DISABLE_PLUGINS=all` or `=package,package` switches plugins off;
`FLOWGMM_PLUGIN_MODULES` names files of the user's own to load (see `local.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import metadata
from typing import Any

from flowgmm_cli.api import Component, Spec
from flowgmm_cli.errors import FlowgmmError, PluginError, did_you_mean
from flowgmm_cli.plugins.builtins import Builtins
from flowgmm_cli.plugins.discovery import Found, normalise, scan
from flowgmm_cli.plugins.entry import CORE, SPEC_TYPES, Entry, kind_of
from flowgmm_cli.plugins.local import LocalModule, given_files, load_file


class Registry:
    """Every component that can be named.

    Args:
        builtins: kind -> name -> spec.
        found: entry points of installed plugins.
        problems: what discovery could not read, one line each.
        disabled: `all`, or package names separated by commas.
        local: files of the user's own that hold specs, loaded already.
    """

    def __init__(
        self,
        builtins: Mapping[str, Mapping[str, Spec]],
        found: Iterable[Found] = (),
        *,
        problems: Iterable[str] = (),
        disabled: str = "",
        local: Iterable[LocalModule] = (),
    ) -> None:
        self.problems = tuple(problems)
        self.recipes = tuple(one for one in found if one.kind == "recipe")
        self._builtins = builtins
        self._found = tuple(one for one in found if one.kind != "recipe")
        self._local = tuple(local)
        self._disabled = {normalise(name.strip()) for name in disabled.split(",") if name.strip()}
        self._plugins: dict[str, tuple[Entry, ...]] = {}

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries of one kind, or of all: built-ins first, then plugins by name. Loads no plugin."""
        kinds = list(SPEC_TYPES) if kind is None else [kind]
        return [entry for one in kinds for entry in (*self._own(one), *self._foreign(one))]

    def including(self, kind: str, name: str, spec: Spec, *, plugins: bool = True) -> Registry:
        """This registry with one more spec, as if it were built in; without `plugins`, with nothing else."""
        specs = {**self._builtins, kind: {**self._builtins.get(kind, {}), name: spec}}
        if not plugins:
            return Registry(specs)
        return Registry(specs, self._found, disabled=",".join(self._disabled), local=self._local)

    def find(self, kind: str, use: str) -> Entry:
        """Resolve a bare name or `package/name`; the entry's spec is loaded.

        Raises:
            PluginError: the name is unknown, offered by several packages, switched off, or its plugin is
                broken or incompatible.
        """
        entry = self._pick(kind, use)
        spec = entry.spec()
        return replace(entry, state="ok", problem="", summary=spec.summary, loaded=spec)

    def build(self, component: Component, *args: Any, **kwargs: Any) -> Any:
        """Import the spec's `build` target and call it with the component's config, `args` and `kwargs`."""
        entry = self.find(component.kind, component.use)
        what = f"{entry.kind} `{entry.name}` from {entry.origin}"
        make = entry.load_build()
        if entry.builtin:
            return make(component.config, *args, **kwargs)
        try:
            return make(component.config, *args, **kwargs)
        except FlowgmmError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{what} could not be built", details=[f"{type(error).__name__}: {error}"]
            ) from error

    def provenance(self, component: Component) -> dict[str, Any]:
        """Where a component comes from, as JSON values for `run.json` and `model.json`."""
        entry = self.find(component.kind, component.use)
        found: dict[str, Any] = {
            "kind": entry.kind,
            "name": entry.name,
            "package": entry.package,
            "version": entry.version,
            "api": entry.spec().api,
        }
        return {**found, "path": entry.path, "sha256": entry.digest} if entry.path else found

    def is_disabled(self, package: str) -> bool:
        """Whether `FLOWGMM_DISABLE_PLUGINS` names the package."""
        return "all" in self._disabled or package in self._disabled

    def _own(self, kind: str) -> list[Entry]:
        specs = self._builtins.get(kind, {})
        version = _core_version()
        return [
            Entry(kind, name, CORE, version, spec.build, summary=spec.summary, loaded=spec)
            for name, spec in specs.items()
        ]

    def _foreign(self, kind: str) -> tuple[Entry, ...]:
        if kind not in self._plugins:
            found = [
                Entry(one.kind, one.name, one.package, one.version, one.target)
                for one in self._found
                if one.kind == kind
            ]
            found += [entry for module in self._local for entry in _entries_of(module) if entry.kind == kind]
            found.sort(key=lambda entry: (entry.name, entry.package))
            own = set(self._builtins.get(kind, {}))
            self._plugins[kind] = tuple(self._judged(entry, found, own) for entry in found)
        return self._plugins[kind]

    def _judged(self, entry: Entry, others: list[Entry], own: set[str]) -> Entry:
        if self.is_disabled(entry.package):
            return replace(entry, state="disabled", problem="switched off by FLOWGMM_DISABLE_PLUGINS")
        if entry.name in own:
            problem = f"a built-in has this name; write `use: {entry.qualified}`"
            return replace(entry, state="conflict", problem=problem)
        rivals = [
            other.origin
            for other in others
            if other.name == entry.name and other != entry and not self.is_disabled(other.package)
        ]
        if rivals:
            return replace(entry, state="conflict", problem=f"also offered by {', '.join(rivals)}")
        return entry

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
            raise PluginError(
                f"{kind} `{name}` is offered by several packages: {', '.join(one.origin for one in active)}",
                hint="write " + " or ".join(f"`use: {entry.qualified}`" for entry in active),
            )
        if named:
            raise PluginError(
                f"{kind} `{use}` from {named[0].origin} is switched off by FLOWGMM_DISABLE_PLUGINS",
                hint="unset FLOWGMM_DISABLE_PLUGINS, or leave that package out of it",
            )
        raise _unknown(kind, use, entries, self.problems)


@cache
def registry() -> Registry:
    """The registry of this process: built-ins, installed plugins and local modules, found once.

    A local module that cannot be loaded is one of its `problems`: it breaks nothing that does not need it.
    """
    discovery = scan()
    disabled = os.environ.get("FLOWGMM_DISABLE_PLUGINS", "")
    modules: list[LocalModule] = []
    problems = list(discovery.problems)
    for file in given_files():
        if "all" in [name.strip() for name in disabled.split(",")]:
            problems.append(f"{file} is not loaded: FLOWGMM_DISABLE_PLUGINS switches all plugins off")
            continue
        try:
            modules.append(load_file(file))
        except PluginError as error:
            problems.append("; ".join([error.message, *error.details]))
    return Registry(Builtins(), discovery.found, problems=problems, disabled=disabled, local=modules)


def build(component: Component, *args: Any, **kwargs: Any) -> Any:
    """`Registry.build` of this process's registry.

    Raises:
        PluginError: the component's plugin cannot be imported, or fails.
    """
    return registry().build(component, *args, **kwargs)


def provenance(component: Component) -> dict[str, Any]:
    """`Registry.provenance` of this process's registry."""
    return registry().provenance(component)


def _entries_of(module: LocalModule) -> list[Entry]:
    entries = []
    for one in module.specs:
        kind = kind_of(one.spec)
        if kind is not None:
            entry = Entry(
                kind,
                one.name,
                module.package,
                None,
                f"{module.module}:{one.attribute}",
                summary=one.spec.summary,
                path=str(module.path),
                digest=module.digest,
            )
            entries.append(entry)
    return entries


def _unknown(kind: str, use: str, entries: list[Entry], problems: Sequence[str]) -> PluginError:
    usable = [entry for entry in entries if entry.state != "disabled"]
    names = list(dict.fromkeys(entry.name for entry in usable))
    guess = did_you_mean(use, [*names, *(entry.qualified for entry in usable)])
    return PluginError(
        f"unknown {kind} `{use}`{guess}",
        details=[f"known: {', '.join(names) or 'none'}", *problems],
        hint=f"`flowgmm plugins list --kind {kind}` shows them all; others come with `pip install`",
    )


@cache
def _core_version() -> str | None:
    try:
        return metadata.version(CORE)
    except metadata.PackageNotFoundError:  # run from a folder that was never installed
        return None

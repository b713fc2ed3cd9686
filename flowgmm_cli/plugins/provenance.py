"""The provenance of a saved run's components, compared with the installed plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from flowgmm_cli.errors import PluginError
from flowgmm_cli.messages import quote
from flowgmm_cli.plugins.entry import CORE
from flowgmm_cli.plugins.local import FLAG
from flowgmm_cli.plugins.registry import Registry, raise_disabled, registry

# the names and versions of PEP 508 and PEP 440; a run's own words are not pasted into a shell
_REQUIREMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:==[A-Za-z0-9.!+_-]+)?")

Components = Iterable[Mapping[str, Any]]


def require(components: Components, *, what: str, known: Registry | None = None) -> list[str]:
    """Check that the plugins of a run or model are installed, by its `components` from `Registry.provenance`.

    `what` is the name of the run or model in messages. Returns warnings, one line each: another version is
    installed, or a local module has changed.

    Raises:
        PluginError: a plugin is switched off or missing; the hint has the command that installs it.
    """
    known = known or registry()
    warnings: dict[str, None] = {}
    for component in components:
        package = component.get("package")
        if not package or package == CORE:
            continue
        label, key = f"{component.get('kind')} `{component.get('name')}`", (component.get("name"), package)
        entries = known.entries(str(component.get("kind")))
        entry = next((entry for entry in entries if (entry.name, entry.package) == key), None)
        if entry is None:
            raise _missing_error(what, label, component, known)
        if entry.state == "disabled":
            raise_disabled(f"{what} needs the {label} from {entry.origin}, which")
        if component.get("path"):
            if entry.digest != component.get("sha256"):
                warnings[f"{entry.path} has changed since {what} was made with it"] = None
        elif entry.version != component.get("version"):
            original = f"{package} {component.get('version')}"
            warnings[f"{what} was made with {original}; installed is {entry.version}"] = None
    return list(warnings)


def drop_unusable_regularisers(
    values: Mapping[str, Any], *, what: str, known: Registry | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Return plain recipe values without the regularisers that cannot be used, and a warning for each.

    Only training needs regularisers. Candidates of a search may change them, so the search goes with them.
    """
    known, usable, warnings = known or registry(), [], []
    for item in values.get("regularisers") or ():
        try:
            known.find("regulariser", str(item["use"]))
        except PluginError as error:
            warnings.append(f"{what} is used without the regulariser `{item['use']}`: {error.message}")
        else:
            usable.append(item)
    if not warnings:
        return dict(values), []
    return {**values, "regularisers": usable, "search": None}, warnings


def qualify(values: Any, components: Components) -> Any:
    """Replace the names of plugins' components in plain recipe values; see `package_names`."""
    names = package_names(components)
    return _rename(values, names) if names else values


def package_names(components: Components) -> dict[str, str]:
    """Return `package/name` by the bare name of plugins' components.

    A bare name keeps its meaning from when the run was made, even if other packages offer it now.
    """
    packages: dict[str, set[str]] = {}
    for component in components:
        packages.setdefault(str(component.get("name")), set()).add(str(component.get("package")))
    return {
        name: f"{next(iter(origins))}/{name}"
        for name, origins in packages.items()
        if len(origins) == 1 and origins != {CORE}
    }


def _rename(values: Any, names: Mapping[str, str]) -> Any:
    if isinstance(values, Mapping):
        return {
            key: names.get(value, value)
            if (key == "use" or str(key).endswith(".use")) and isinstance(value, str)
            else _rename(value, names)
            for key, value in values.items()
        }
    return [_rename(item, names) for item in values] if isinstance(values, list) else values


def _missing_error(what: str, label: str, component: Mapping[str, Any], known: Registry) -> PluginError:
    package, version, path = component["package"], component.get("version"), component.get("path")
    if path:
        return PluginError(
            f"{what} needs the {label} from the plugin module {path}, which is not loaded",
            details=known.problems,
            hint=f"give it again: {FLAG} {quote(path)}",
        )
    requirement = f"{package}=={version}" if version else str(package)
    installed = any(entry.package == package for entry in known.entries())
    reason = "which does not offer it any more" if installed else "which is not installed"
    return PluginError(
        f"{what} needs the {label} from {package}{f' {version}' if version else ''}, {reason}",
        details=known.problems,
        hint=f"pip install {requirement}"
        if _REQUIREMENT.fullmatch(requirement)
        else "this is not the name of a package, so ask for it where the run comes from",
    )

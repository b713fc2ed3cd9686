"""Where the components of a saved run came from, held against what is installed now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flowgmm_cli.errors import PluginError
from flowgmm_cli.plugins.entry import CORE, Entry
from flowgmm_cli.plugins.local import FLAG
from flowgmm_cli.plugins.registry import Registry, registry

Components = Iterable[Mapping[str, Any]]


def require(components: Components, *, what: str, known: Registry | None = None) -> list[str]:
    """Find the plugins that a run or model was made with.

    Args:
        components: its `components`, as `Registry.provenance` wrote them.
        what: how to call the run or model in messages.
        known: the registry; default: this process's.

    Returns:
        Warnings, one line each: another version is installed, or a local module has changed.

    Raises:
        PluginError: a plugin is not there, with the line that installs it, or is switched off.
    """
    found = known or registry()
    warnings: dict[str, None] = {}
    for one in components:
        package = one.get("package")
        if not package or package == CORE:
            continue
        label = f"{one.get('kind')} `{one.get('name')}`"
        entry = _entry(found, one)
        if entry is None:
            raise _absent(what, label, one, found)
        if entry.state == "disabled":
            raise PluginError(
                f"{what} needs the {label} from {entry.origin}, which is switched off by "
                "FLOWGMM_DISABLE_PLUGINS",
                hint="unset FLOWGMM_DISABLE_PLUGINS, or leave that package out of it",
            )
        if one.get("path"):
            if entry.digest != one.get("sha256"):
                warnings[f"{entry.path} has changed since {what} was made with it"] = None
        elif entry.version != one.get("version"):
            warnings[f"{what} was made with {package} {one.get('version')}; installed is {entry.version}"] = (
                None
            )
    return list(warnings)


def qualify(values: Any, components: Components) -> Any:
    """Plain recipe values in which each plugin's component is named `package/name`.

    A bare name means what it meant when the run was made, even if other packages offer it by now.
    """
    packages: dict[str, set[str]] = {}
    for one in components:
        packages.setdefault(str(one.get("name")), set()).add(str(one.get("package")))
    names = {
        name: f"{next(iter(offered))}/{name}"
        for name, offered in packages.items()
        if len(offered) == 1 and offered != {CORE}
    }
    return _renamed(values, names) if names else values


def _renamed(values: Any, names: Mapping[str, str]) -> Any:
    if isinstance(values, Mapping):
        return {
            key: names.get(value, value)
            if (key == "use" or str(key).endswith(".use")) and isinstance(value, str)
            else _renamed(value, names)
            for key, value in values.items()
        }
    return [_renamed(item, names) for item in values] if isinstance(values, list) else values


def _entry(known: Registry, one: Mapping[str, Any]) -> Entry | None:
    wanted = (one.get("name"), one.get("package"))
    entries = known.entries(str(one.get("kind")))
    return next((entry for entry in entries if (entry.name, entry.package) == wanted), None)


def _absent(what: str, label: str, one: Mapping[str, Any], known: Registry) -> PluginError:
    package, version, path = one["package"], one.get("version"), one.get("path")
    if path:
        return PluginError(
            f"{what} needs the {label} from the plugin module {path}, which is not loaded",
            details=known.problems,
            hint=f"give it again: {FLAG} {path}",
        )
    installed = any(entry.package == package for entry in known.entries())
    because = "which does not offer it any more" if installed else "which is not installed"
    return PluginError(
        f"{what} needs the {label} from {package}{f' {version}' if version else ''}, {because}",
        details=known.problems,
        hint=f"pip install {package}{f'=={version}' if version else ''}",
    )

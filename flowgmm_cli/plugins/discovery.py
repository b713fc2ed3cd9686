"""Finds installed plugins by their entry points, without importing them.

This is the only module that uses the `entrypoints` package. That package stops at the first malformed
`entry_points.txt` of any distribution. If it does, a second pass with `importlib.metadata` reads each
distribution separately and reports the malformed ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flowgmm_cli.api import ENTRY_POINT_GROUPS as GROUPS
from flowgmm_cli.plugins.entry import Entry, normalise

_NAME = re.compile(r"[a-z][a-z0-9_.]*")
_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*(?::\s*(?P<attribute>\w+(?:\.\w+)*))?\s*(?:\[.*\])?")
_RawEntry = tuple[str, str, str, str, str | None]  # group, name, value, distribution, version


@dataclass(frozen=True)
class Discovery:
    """All installed components and recipe folders, and one line for each that cannot be read."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()


def discover(path: Sequence[str] | None = None) -> Discovery:
    """Read the entry points of all distributions on `path` (default `sys.path`).

    Malformed metadata is named in `problems`; it never raises.
    """
    try:
        return _collect(_read_with_entrypoints(path))
    except Exception:  # a malformed file can raise any exception; the second pass names the file
        problems: list[str] = []
        return _collect(_read_with_metadata(path, problems), problems)


def distribution_summary(package: str) -> str:
    """Return a distribution's own summary without importing it; empty if it has none."""
    from importlib import metadata

    try:
        summary = metadata.metadata(package)["Summary"] or ""
    except Exception:  # a malformed file can raise any exception
        return ""
    return " ".join(str(summary).split())


def _collect(raw_entries: Iterable[_RawEntry], problems: list[str] | None = None) -> Discovery:
    entries: list[Entry] = []
    bad: list[str] = []
    for group, name, value, distribution, version in raw_entries:
        match = _TARGET.fullmatch(value.strip())
        package = normalise(distribution)
        source = f"{package} {version}" if version else package
        kind = GROUPS[group]
        if not _NAME.fullmatch(name):
            bad.append(f"{source}: the {kind} name `{name}` is not of the form [a-z][a-z0-9_.]*")
        elif match is None or (match["attribute"] is None and kind != "recipe"):
            bad.append(f"{source}: the {kind} `{name}` names `{value}`, not `module:attribute`")
        else:
            target = match["module"] + (f":{match['attribute']}" if match["attribute"] else "")
            entries.append(Entry(kind, name, package, version, target))
    entries.sort(key=lambda entry: (entry.kind, entry.name, entry.package))
    return Discovery(tuple(entries), (*(problems or []), *sorted(bad)))


def _read_with_entrypoints(path: Sequence[str] | None) -> Iterator[_RawEntry]:
    import entrypoints

    seen: set[str] = set()
    for config, distribution in entrypoints.iter_files_distros(path=path):
        groups = [group for group in GROUPS if group in config]
        if groups and config.defaults():
            # ConfigParser would leak the keys of a [DEFAULT] section into every group
            raise ValueError("a [DEFAULT] section")
        package = normalise(distribution.name)
        if package in seen:  # for entrypoints `a_b` and `a-b` are different
            continue
        seen.add(package)
        # an egg-info folder may be called name-1.0-py3.11
        version = re.sub(r"-py\d.*$", "", distribution.version) if distribution.version else None
        for group in groups:
            for name, value in config[group].items():
                yield group, name, value or "", package, version


def _read_with_metadata(path: Sequence[str] | None, problems: list[str]) -> Iterator[_RawEntry]:
    from importlib import metadata

    seen: set[str] = set()
    installed = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    for distribution in installed:
        name = str(getattr(distribution, "_path", "an installed package"))
        try:
            package = normalise(distribution.metadata["Name"] or "")
            name = f"{package} {distribution.version}"
            if not package or package in seen:
                continue
            seen.add(package)
            for entry in list(distribution.entry_points):
                if entry.group in GROUPS:
                    yield entry.group, entry.name, entry.value, package, distribution.version
        except Exception as error:
            problems.append(f"{name}: its entry points cannot be read ({error or type(error).__name__})")

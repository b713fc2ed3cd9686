"""Finds installed plugins by their entry points; nothing is imported.

This is the only module that knows the `entrypoints` package. That package stops at the first malformed
`entry_points.txt` of any distribution, however unrelated, so a second pass with `importlib.metadata`, guarded
one distribution at a time, takes over whenever the first one fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flowgmm_cli.api import ENTRY_POINT_GROUPS as GROUPS

_NAME = re.compile(r"[a-z][a-z0-9_.]*")
_TARGET = re.compile(r"(?P<module>\w+(?:\.\w+)*)\s*(?::\s*(?P<attribute>\w+(?:\.\w+)*))?\s*(?:\[.*\])?")
_RawEntry = tuple[str, str, str, str, str | None]  # group, name, value, distribution, version


@dataclass(frozen=True)
class Found:
    """One entry point of one of our groups.

    Attributes:
        kind: a value of `flowgmm_cli.api.ENTRY_POINT_GROUPS`.
        name: the name recipes use.
        target: `package.module:attribute`; for recipes a package or `package:folder`.
        package: the distribution, normalised as PEP 503 says.
        version: the distribution's version where its metadata says so.
    """

    kind: str
    name: str
    target: str
    package: str
    version: str | None


@dataclass(frozen=True)
class Discovery:
    """All entry points found, and one line for each that could not be read."""

    found: tuple[Found, ...] = ()
    problems: tuple[str, ...] = ()


def normalise(package: str) -> str:
    """Return a distribution's name in the spelling of PEP 503.

    >>> normalise("FlowGMM_nsf")
    'flowgmm-nsf'
    """
    return re.sub(r"[-_.]+", "-", package).lower()


def scan(path: Sequence[str] | None = None) -> Discovery:
    """Look once through all distributions on `path` (default `sys.path`).

    Never raises for malformed metadata: what cannot be read is named in `problems`.
    """
    try:
        return _collect(_with_entrypoints(path))
    except Exception:  # whatever a foreign file provokes; the second pass finds out which file it is
        problems: list[str] = []
        return _collect(_with_metadata(path, problems), problems)


def distribution_summary(package: str) -> str:
    """The line by which a distribution describes itself, or nothing; the distribution is not imported."""
    from importlib import metadata

    try:
        found = metadata.metadata(package)["Summary"] or ""
    except Exception:  # whatever a foreign file provokes
        return ""
    return " ".join(str(found).split())


def _collect(raw_entries: Iterable[_RawEntry], problems: list[str] | None = None) -> Discovery:
    found: list[Found] = []
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
            found.append(Found(kind, name, target, package, version))
    found.sort(key=lambda one: (one.kind, one.name, one.package))
    return Discovery(tuple(found), (*(problems or []), *sorted(bad)))


def _with_entrypoints(path: Sequence[str] | None) -> Iterator[_RawEntry]:
    import entrypoints

    seen: set[str] = set()
    for config, distribution in entrypoints.iter_files_distros(path=path):
        groups = [group for group in GROUPS if group in config]
        if groups and config.defaults():
            # ConfigParser would leak the keys of a [DEFAULT] section into every group
            raise ValueError("a [DEFAULT] section")
        package = normalise(distribution.name)
        if package in seen:  # entrypoints tells `a_b` from `a-b`
            continue
        seen.add(package)
        # an egg-info folder may be called name-1.0-py3.11
        version = re.sub(r"-py\d.*$", "", distribution.version) if distribution.version else None
        for group in groups:
            for name, value in config[group].items():
                yield group, name, value or "", package, version


def _with_metadata(path: Sequence[str] | None, problems: list[str]) -> Iterator[_RawEntry]:
    from importlib import metadata

    from flowgmm_cli.plugins.tolerance import entry_points_of

    seen: set[str] = set()
    installed = metadata.distributions() if path is None else metadata.distributions(path=list(path))
    for distribution in installed:
        where = str(getattr(distribution, "_path", "an installed package"))
        try:
            package = normalise(distribution.metadata["Name"] or "")
            where = f"{package} {distribution.version}"
            if not package or package in seen:
                continue
            seen.add(package)
            for entry in list(entry_points_of(distribution)):
                if entry.group in GROUPS:
                    yield entry.group, entry.name, entry.value, package, distribution.version
        except Exception as error:
            problems.append(f"{where}: its entry points cannot be read ({error or type(error).__name__})")

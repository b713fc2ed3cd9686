"""Keeps malformed metadata of one installed package from stopping everything else.

Python's own `importlib.metadata.entry_points()` raises if the `entry_points.txt` of any distribution is
malformed. torch and pydantic call it when they are imported, so that one such file, of a package that nobody
uses, makes both of them impossible to import. Our own discovery copes (see `discovery.py`); this is for
theirs.
"""

from __future__ import annotations

from importlib import metadata
from typing import Any

_STRICT: Any = metadata.Distribution.entry_points


def entry_points_of(distribution: metadata.Distribution) -> Any:
    """A distribution's entry points, as Python reads them. Raises whatever a malformed file provokes."""
    return _STRICT.fget(distribution)


def tolerate_malformed_metadata() -> None:
    """Let a distribution whose entry points cannot be read have none, for the rest of this process.

    For the command line only: a library has no business in changing Python for the program around it.
    """

    def entry_points(self: metadata.Distribution) -> Any:
        try:
            return entry_points_of(self)
        except Exception:  # whatever a foreign file provokes; `plugins list` and `doctor` name the file
            return metadata.EntryPoints(())

    setattr(metadata.Distribution, "entry_points", property(entry_points))  # noqa: B010 - a property


def be_strict() -> None:
    """Undo `tolerate_malformed_metadata`."""
    setattr(metadata.Distribution, "entry_points", _STRICT)  # noqa: B010

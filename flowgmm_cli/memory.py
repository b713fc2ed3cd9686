"""Memory that libraries keep for the next piece of work."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_MOST = 2**25  # the most that glibc takes for the second


def keep_freed_memory(most: int) -> None:
    """Let the C library keep what is freed: every step takes as much again as the one before it.

    Otherwise a tenth of the time goes into giving memory back to the system and having it cleared. glibc has
    a call for that (mallopt(3)); others decide by themselves.

    Args:
        most: bytes that are kept.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_TRIM_THRESHOLD, most)
    mallopt(_MMAP_THRESHOLD, _MOST)


def release_arrow() -> None:
    """Let Arrow give back what it has freed; its pool keeps as much as a whole table took."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()

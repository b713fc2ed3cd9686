"""Memory that libraries keep for later use."""

from __future__ import annotations

import sys


def release_arrow() -> None:
    """Return freed memory of Arrow's pool to the system; the pool keeps as much as a whole table took."""
    if (arrow := sys.modules.get("pyarrow")) is not None:
        arrow.default_memory_pool().release_unused()

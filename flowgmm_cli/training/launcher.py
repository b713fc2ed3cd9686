"""The environment of a process in distributed training, set by `torchrun`, `accelerate` or `--processes N`.

Nothing here imports torch.
"""

from __future__ import annotations

import os

_PARENT = os.getppid()


def world_size() -> int:
    """Number of processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return True for the process that writes files and prints: rank 0, or the only process."""
    return world_size() == 1 or os.environ.get("RANK", "0") == "0"


def parent_has_ended() -> bool:
    """Return True if the launcher that started this process has ended without stopping it."""
    return os.name == "posix" and world_size() > 1 and os.getppid() != _PARENT

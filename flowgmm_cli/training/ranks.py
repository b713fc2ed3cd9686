"""What the surroundings say of other processes of this run, before torch is imported.

`torchrun`, `accelerate launch` and `flowgmm train --processes N` set the same variables.
"""

from __future__ import annotations

import os


def several() -> bool:
    """Whether there are other processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def follows() -> bool:
    """Whether another process leads this one."""
    return several() and os.environ.get("RANK", "0") != "0"


def orphaned() -> bool:
    """Whether `flowgmm train --processes N`, which started this process, is gone."""
    launcher = os.environ.get("FLOWGMM_LAUNCHER", "")
    return os.name == "posix" and launcher.isdigit() and os.getppid() != int(launcher)

"""Names of devices to torch devices."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from flowgmm_cli.errors import UsageError


def find_device(
    name: str, *, option: str = "run.device=", names: Sequence[str] = ("auto", "cpu", "cuda", "mps")
) -> torch.device:
    """Return the device of that name; `auto` is the first available of `cuda`, `mps` and `cpu`.

    Where a launcher has set LOCAL_RANK, each process gets a GPU of its own.

    Args:
        name: one of `names`.
        option: how the user sets the name, for messages.
        names: names to choose from.

    Raises:
        UsageError: the name is unknown, or there is no such device.
    """
    if name not in names:
        listed = f"{', '.join(names[:-1])} or {names[-1]}"
        raise UsageError(f"{option}{name} is no device: take {listed}", hint=f"{option}auto")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there and kind in names)
    if not available[name]:
        raise UsageError(
            f"{option}{name}, but this machine has no such device that torch can use",
            hint=f"`{option}auto` takes the best one there is; `flowgmm doctor` shows it",
        )
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(name, int(rank)) if name == "cuda" and rank else torch.device(name)

"""Random numbers of layers such as dropout, which know no generator but torch's global one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from flowgmm_cli.seeds import derive_seed


@contextmanager
def seeded_layers(generator: torch.Generator, rank: int = 0) -> Iterator[None]:
    """Let layers that draw from torch's global generator draw a step's own numbers inside the block.

    The numbers depend on the seed of `generator` alone, in a stream apart from what is drawn from it, so that
    a resumed run drops what the uninterrupted one would have. Afterwards the global generator is as it was.

    Args:
        generator: random numbers of the step, on the device of the rows.
        rank: of the process, where several see different rows: each has numbers of its own.
    """
    shared = _global_generator(generator.device)
    before = shared.get_state()
    shared.manual_seed(derive_seed(generator.initial_seed(), "layers", rank))
    try:
        yield
    finally:
        shared.set_state(before)


def _global_generator(device: torch.device) -> torch.Generator:
    """The one that `torch.nn.functional.dropout` draws from on a device."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        found: torch.Generator = torch.cuda.default_generators[index]
        return found
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator

"""Random numbers as a function of (seed, stream, index).

No random state passes from one step to the next, so a resumed run continues exactly without a saved state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import numpy as np
import torch

# A stream is identified by its position: append new ones at the end.
Stream = Literal[
    "init",
    "order",
    "labelled",
    "step",
    "monitor",
    "folds",
    "texts",
    "layers",
    "member",
    "scores",
    "report",
    "rank",
    "unknown",
]
_STREAM_KEYS: dict[Stream, int] = {stream: key for key, stream in enumerate(get_args(Stream))}


def derive_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """Return a 63-bit seed, independent for every seed, stream and index."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM_KEYS[stream], index))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def generator(
    seed: int, stream: Stream, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a generator on `device`, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, index))


@contextmanager
def seeded_layers(generator: torch.Generator) -> Iterator[None]:
    """Seed the global generator, from which layers such as dropout draw, for the block.

    The numbers depend on the seed of `generator` alone and not on the numbers drawn from it, so that a
    resumed run drops the same units. After the block the global generator is in its earlier state.

    Args:
        generator: random numbers of the step, on the device of the rows.
    """
    global_generator = _global_generator(generator.device)
    state = global_generator.get_state()
    global_generator.manual_seed(derive_seed(generator.initial_seed(), "layers"))
    try:
        yield
    finally:
        global_generator.set_state(state)


def _global_generator(device: torch.device) -> torch.Generator:
    """Generator that `torch.nn.functional.dropout` draws from on a device."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index]
    if device.type == "mps":
        return torch.mps._get_default_mps_generator()
    return torch.default_generator

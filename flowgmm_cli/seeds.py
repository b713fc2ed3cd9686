"""Random numbers as a function of (seed, stream, index).

No random state passes from one step to the next, so a resumed run continues exactly without a saved state.
"""

from __future__ import annotations

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

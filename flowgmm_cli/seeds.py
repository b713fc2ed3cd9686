"""Random numbers as a function of (seed, stream, index).

Nothing carries random state from step to step, so a resumed run needs none to go on exactly as it would have.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch

Stream = Literal[
    "init", "order", "labelled", "step", "monitor", "folds", "texts", "layers", "member", "scores", "report"
]
_NUMBERS: dict[Stream, int] = {
    "init": 0,
    "order": 1,
    "labelled": 2,
    "step": 3,
    "monitor": 4,
    "folds": 5,
    "texts": 6,
    "layers": 7,
    "member": 8,
    "scores": 9,
    "report": 10,
}


def derive_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """A 63-bit seed that is independent between streams and indices."""
    sequence = np.random.SeedSequence(seed, spawn_key=(_NUMBERS[stream], index))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def generator(
    seed: int, stream: Stream, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator on `device`, seeded by `derive_seed`."""
    return torch.Generator(device).manual_seed(derive_seed(seed, stream, index))

"""Dropping words as a view of texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flowgmm_cli.views.specs import DropWordsConfig


class DropWords:
    """Leaves out each word with probability `rate`; of every text at least one word stays.

    Words are what stands between white space, so that a text in a script without spaces stays whole.
    """

    def __init__(self, config: DropWordsConfig) -> None:
        self.rate = config.rate

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, the remaining words joined by spaces."""
        return [self._shorter(text.split(), generator) for text in texts]

    def _shorter(self, words: list[str], generator: np.random.Generator) -> str:
        draws = generator.random(len(words))
        kept = [word for word, draw in zip(words, draws.tolist(), strict=True) if draw >= self.rate]
        if words and not kept:
            kept = [words[int(draws.argmax())]]
        return " ".join(kept)

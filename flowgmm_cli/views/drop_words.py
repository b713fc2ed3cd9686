"""Dropping words as a view of texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.views.specs import DropWordsConfig

_TEXTS = 64  # that share a call of the generator


class DropWords:
    """Leaves out each word with probability `rate`; of every text at least one word stays.

    Words are what stands between white space, so that a text in a script without spaces stays whole.
    """

    def __init__(self, config: DropWordsConfig) -> None:
        self.rate = config.rate

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, the remaining words joined by spaces."""
        return [
            text
            for some in iterate_batches(len(texts), _TEXTS)
            for text in self._drop(texts[some], generator)
        ]

    def _drop(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        cut = [text.split() for text in texts]
        draws = generator.random(sum(map(len, cut)))
        kept = iter((draws >= self.rate).tolist())
        found = [" ".join(compress(words, kept)) for words in cut]  # which takes one of `kept` for each word
        start = 0
        for place, words in enumerate(cut):
            if words and not found[place]:
                found[place] = words[int(draws[start : start + len(words)].argmax())]
            start += len(words)
        return found

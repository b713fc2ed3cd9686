"""Views of texts: word dropout."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.views.specs import DropWordsConfig

_BATCH_TEXTS = 64  # texts that share a call of the generator


class DropWords:
    """Removes each word with probability `rate`; at least one word of every text stays.

    Words are separated by white space, so a text in a script without spaces stays whole.
    """

    def __init__(self, config: DropWordsConfig) -> None:
        self.rate = config.rate

    def __call__(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        """Return changed texts, the remaining words joined by spaces."""
        batches = iterate_batches(len(texts), _BATCH_TEXTS)
        return [text for batch in batches for text in self._drop(texts[batch], generator)]

    def _drop(self, texts: Sequence[str], generator: np.random.Generator) -> list[str]:
        split = [text.split() for text in texts]
        draws = generator.random(sum(map(len, split)))
        kept, result, start = (draws >= self.rate).tolist(), [], 0
        for words in split:
            stop = start + len(words)
            text = " ".join(compress(words, kept[start:stop]))
            result.append(text if text or not words else words[int(draws[start:stop].argmax())])
            start = stop
        return result

"""Several text encoders whose vectors stand side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Encoder
from flowgmm_cli.files import select_prefix


class JointEncoder:
    """Encoders side by side: lengths of their vectors are as their weights, a zero vector stays zero.

    With weights of 1 the mean square of an entry is 1, so numbers in other columns do not outweigh the texts.

    Args:
        parts: the encoders.
        weights: the length of the vectors of each, in relation to the others.
    """

    def __init__(self, parts: Sequence[Encoder], weights: Sequence[float]) -> None:
        self.parts, self.weights = tuple(parts), tuple(weights)
        self.dim = sum(part.dim for part in parts)

    def fit(self, texts: Sequence[str]) -> None:
        """Fit each encoder."""
        for part in self.parts:
            part.fit(texts)
        self.dim = sum(part.dim for part in self.parts)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)`."""
        return self.join([part.encode(texts) for part in self.parts])

    def join(self, vectors: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        """Scale the vectors of each encoder, `(N, dim of the part)`, and join them."""
        scaled, length = [], (self.dim / len(self.parts)) ** 0.5
        for part, weight in zip(vectors, self.weights, strict=True):
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            scaled.append(part * np.float32(length * weight) / np.where(lengths > 0, lengths, 1))
        return np.concatenate(scaled, axis=1)

    def cache_key(self) -> str | None:
        """Return None: each part is cached by itself."""
        return None

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the states of the encoders."""
        states = [part.state() for part in self.parts]
        arrays = {f"{i}.{name}": array for i, (_, own) in enumerate(states) for name, array in own.items()}
        return {"parts": [values for values, _ in states]}, arrays

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore the encoders."""
        for index, (part, own) in enumerate(zip(self.parts, values["parts"], strict=True)):
            part.load_state(own, select_prefix(f"{index}.", arrays))
        self.dim = sum(part.dim for part in self.parts)

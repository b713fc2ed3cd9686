"""Vectors of texts: means of token vectors, and TF-IDF reduced by a truncated SVD."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
_WORD = re.compile(r"\w+")
_CHUNK_TEXTS = 1024


class TextEncoder:
    """The encoders of a column of texts, side by side; with weights their vectors have fixed lengths.

    Args:
        values: the encoder of a column in `model.json`.
        folder: folder of its files.
    """

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        self._parts = [_BUILDERS[part["use"]](part, folder) for part in values["parts"]]
        self._weights = values["weights"]

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(N, dim)`."""
        vectors = [part(texts) for part in self._parts]
        if self._weights is None:
            return vectors[0]
        length = (sum(part.shape[1] for part in vectors) / len(vectors)) ** 0.5
        scaled = []
        for part, weight in zip(vectors, self._weights, strict=True):
            lengths = np.linalg.norm(part, axis=1, keepdims=True)
            scaled.append(part * np.float32(length * weight) / np.where(lengths > 0, lengths, 1))
        return np.concatenate(scaled, axis=1)


class TokenMeans:
    """Mean of static token vectors; a text without tokens is the zero vector."""

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise ImportError(
                "this model reads texts: pip install 'flowgmm-runtime[text]'", name="tokenizers"
            ) from error
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._table = _load(folder, values["table"])[:, : values["dim"]]

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(N, dim)`."""
        vectors = np.zeros((len(texts), self._table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK_TEXTS):
            chunk = list(texts[start : start + _CHUNK_TEXTS])
            encodings = self._tokenizer.encode_batch_fast(chunk, add_special_tokens=False)
            for row, encoding in enumerate(encodings, start):
                if encoding.ids:
                    vectors[row] = self._table[encoding.ids].mean(axis=0, dtype=np.float64)
        return vectors


class TfidfSvd:
    """TF-IDF of n-grams and a truncated SVD; a text without a known n-gram is the zero vector."""

    def __init__(self, values: Mapping[str, Any], folder: Path) -> None:
        self._index = {term: place for place, term in enumerate(values["vocabulary"])}
        self._sizes = range(values["ngrams"][0], values["ngrams"][1] + 1)
        self._idf = np.asarray(_load(folder, values["idf"]), np.float64)
        self._components = np.ascontiguousarray(_load(folder, values["components"]).T, dtype=np.float32)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(N, dim)`."""
        vectors = np.zeros((len(texts), self._components.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            known = (self._index.get(term) for term in self._terms(text))
            counts = Counter(place for place in known if place is not None)
            if counts:
                places, numbers = list(counts), np.array(list(counts.values()), np.float64)
                weights = (1 + np.log(numbers)) * self._idf[places]
                weights /= np.sqrt(np.square(weights).sum())
                vectors[row] = weights @ self._components[places]
        return vectors

    def _terms(self, text: str) -> Iterator[str]:
        words = _WORD.findall(text.lower())
        for size in self._sizes:
            yield from map(" ".join, zip(*(words[start:] for start in range(size)), strict=False))


def _load(folder: Path, name: str) -> npt.NDArray[Any]:
    array: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


_BUILDERS: dict[str, Callable[[Mapping[str, Any], Path], Callable[[Sequence[str]], Vectors]]] = {
    "wordllama": TokenMeans,
    "tfidf_svd": TfidfSvd,
}

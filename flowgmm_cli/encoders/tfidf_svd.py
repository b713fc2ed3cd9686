"""TF-IDF of n-grams, reduced by a truncated SVD (latent semantic analysis), fitted on training texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import embedding_bag

from flowgmm_cli.encoders.specs import TfidfSvdConfig
from flowgmm_cli.errors import DataError

MAX_FIT_TEXTS = 25_000
"""Texts that are fitted to, at equal distances among more of them."""
MIN_SINGULAR_VALUE = 1e-4  # as a share of the largest; below it are rounding errors of float32
_CHUNK_TEXTS = 1024  # counted at once
_POWER_ITERATIONS = 2
_WORD = re.compile(r"\w+")  # words of one letter too: in Chinese or Japanese they matter


class TfidfSvdEncoder:
    """TF-IDF and truncated SVD, fitted on training texts.

    The vector of a text without a known n-gram is zero; other vectors have length at most 1. `dim` is at most
    the rank of the training texts' TF-IDF matrix. Encoding needs no scikit-learn, which is slow to import.
    """

    def __init__(self, config: TfidfSvdConfig) -> None:
        self.dim = config.dim
        self.config = config
        self._vocabulary: dict[str, int] = {}
        self._idf = torch.zeros(0)
        self._table = torch.zeros(0, config.dim)  # singular vectors, by n-gram

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary, the document frequencies and the leading singular vectors.

        Raises:
            DataError: no n-gram occurs often enough.
        """
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd

        if len(texts) > MAX_FIT_TEXTS:
            places = np.linspace(0, len(texts) - 1, MAX_FIT_TEXTS).astype(np.int64).tolist()
            texts = [texts[place] for place in places]
        frequency = Counter[str]()
        for text in texts:
            frequency.update(set(self._terms(text)))
        common = [item for item in frequency.items() if item[1] >= self.config.min_df]
        if not common:
            raise DataError(
                f"no n-gram occurs in {self.config.min_df} of the training texts",
                hint="set min_df=1 in data.encoder, or check data.text",
            )
        common = sorted(common, key=lambda item: (-item[1], item[0]))[: self.config.max_features]
        self._vocabulary = {term: index for index, (term, _) in enumerate(common)}
        counts = torch.tensor([count for _, count in common])
        self._idf = torch.log((1 + len(texts)) / (1 + counts)) + 1
        lengths, terms, weights = self._weigh(texts)
        offsets = np.concatenate([[0], np.cumsum(lengths.numpy())])
        matrix = csr_matrix((weights.numpy(), terms.numpy(), offsets), shape=(len(texts), len(common)))
        rank = min(self.config.dim, *matrix.shape)
        _, singular, rows = randomized_svd(
            matrix, rank, n_iter=_POWER_ITERATIONS, random_state=self.config.seed
        )
        # Directions in which the texts do not vary are rounding noise, which scaling would amplify.
        self._set_components(rows[singular > MIN_SINGULAR_VALUE * singular[0]].astype(np.float16))

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)`."""
        if not self._vocabulary:
            raise RuntimeError("the encoder is not fitted")
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK_TEXTS):
            lengths, terms, weights = self._weigh(texts[start : start + _CHUNK_TEXTS])
            offsets = lengths.cumsum(0) - lengths
            summed = embedding_bag(terms, self._table, offsets, mode="sum", per_sample_weights=weights)
            vectors[start : start + len(lengths)] = summed.numpy()
        return vectors

    def cache_key(self) -> str | None:
        """Return None: the vectors depend on the training texts."""
        return None

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the vocabulary in order, the inverse document frequencies and the singular vectors."""
        if not self._vocabulary:
            raise RuntimeError("the encoder is not fitted")
        components = np.ascontiguousarray(self._table.numpy().T.astype(np.float16))  # exact
        return {"vocabulary": list(self._vocabulary)}, {"idf": self._idf.numpy(), "components": components}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a fitted encoder."""
        self._vocabulary = {term: index for index, term in enumerate(values["vocabulary"])}
        self._idf = torch.from_numpy(np.array(arrays["idf"], dtype=np.float32))
        self._set_components(np.asarray(arrays["components"]))

    def _set_components(self, components: npt.NDArray[np.floating[Any]]) -> None:
        self._table = torch.from_numpy(np.ascontiguousarray(components.T, dtype=np.float32))
        self.dim = len(components)

    def _terms(self, text: str) -> Iterator[str]:
        """Return the n-grams of the words of a text."""
        words = _WORD.findall(text.lower())
        shortest, longest = self.config.ngrams
        sizes = range(shortest, longest + 1)
        return chain.from_iterable(
            words if size == 1 else map(" ".join, zip(*(words[i:] for i in range(size)), strict=False))
            for size in sizes
        )

    def _weigh(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the number of known terms of each text, then their indices and weights, end to end.

        Weights are `(1 + log count) * idf`, of length 1 for each text.
        """
        rows = [Counter(map(self._vocabulary.get, self._terms(text))) for text in texts]
        for row in rows:
            row.pop(None, None)  # of terms that are not in the vocabulary
        lengths = torch.tensor([len(row) for row in rows])
        terms = torch.tensor([index for row in rows for index in row], dtype=torch.int64)
        counts = torch.tensor([count for row in rows for count in row.values()], dtype=torch.float32)
        weights = (1 + counts.log()) * self._idf[terms]
        owners = torch.repeat_interleave(torch.arange(len(rows)), lengths)
        squares = torch.zeros(len(rows)).index_add_(0, owners, weights**2)
        return lengths, terms, weights / squares.sqrt()[owners]

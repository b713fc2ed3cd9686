"""TF-IDF of word n-grams, reduced by a truncated SVD (latent semantic analysis), fitted on training texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.utils.extmath import randomized_svd

from flowgmm_cli.encoders.specs import TfidfSvdConfig
from flowgmm_cli.errors import DataError

MIN_SINGULAR_VALUE = 1e-4  # as a share of the largest; below it are rounding errors of float32


class TfidfSvdEncoder:
    """TF-IDF and truncated SVD, fitted on training texts.

    The vector of a text without a known n-gram is zero; other vectors have length at most 1. `dim` is at most
    the rank of the training texts' TF-IDF matrix.
    """

    def __init__(self, config: TfidfSvdConfig) -> None:
        self.dim = config.dim
        self._config = config
        self._vectorizer = _vectorizer(config, min_df=config.min_df)
        self._components: npt.NDArray[np.float32] | None = None

    def fit(self, texts: Sequence[str]) -> None:
        """Learn the vocabulary, the document frequencies and the leading singular vectors.

        Raises:
            DataError: no n-gram occurs often enough.
        """
        try:
            weights = self._vectorizer.fit_transform(texts)
        except ValueError as error:
            raise DataError(
                f"no n-gram occurs in {self._config.min_df} of the training texts",
                hint="set data.encoder.min_df=1, or check data.text",
            ) from error
        rank = min(self._config.dim, *weights.shape)
        _, singular, rows = randomized_svd(weights, rank, random_state=self._config.seed)
        # Directions in which the texts do not vary are rounding noise, which scaling would amplify.
        self._components = rows[singular > MIN_SINGULAR_VALUE * singular[0]].astype(np.float32)
        self.dim = len(self._components)

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)`."""
        if self._components is None:
            raise RuntimeError("the encoder is not fitted")
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        projected: npt.NDArray[np.float32] = self._vectorizer.transform(texts) @ self._components.T
        return projected

    def cache_key(self) -> str | None:
        """Return None: the vectors depend on the training texts."""
        return None

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the vocabulary in order, the inverse document frequencies and the singular vectors."""
        if self._components is None:
            raise RuntimeError("the encoder is not fitted")
        vocabulary = self._vectorizer.get_feature_names_out().tolist()
        return {"vocabulary": vocabulary}, {"idf": self._vectorizer.idf_, "components": self._components}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Restore a fitted encoder."""
        self._vectorizer = _vectorizer(self._config, vocabulary=values["vocabulary"])
        self._vectorizer.idf_ = np.asarray(arrays["idf"])
        self._components = np.asarray(arrays["components"])
        self.dim = len(self._components)


def _vectorizer(config: TfidfSvdConfig, **vocabulary: Any) -> TfidfVectorizer:
    shortest, longest = config.ngrams
    return TfidfVectorizer(
        ngram_range=(shortest, longest),
        max_features=config.max_features,
        sublinear_tf=True,
        token_pattern=r"(?u)\b\w+\b",  # words of one letter too: in Chinese or Japanese they matter
        dtype=np.float32,
        **vocabulary,
    )

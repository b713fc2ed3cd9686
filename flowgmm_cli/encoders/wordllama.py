"""Text encoder with static token vectors of the `wordllama` package, averaged over the tokens of a text.

The model (a 16 MB table for the Llama 2 vocabulary, trained with Matryoshka truncation, so that the leading
64 or 128 dimensions work on their own) is part of the package; nothing is downloaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import embedding_bag

from flowgmm_cli.encoders.specs import WordLlamaConfig
from flowgmm_cli.errors import DataError

_MODEL, _WEIGHTS_DIM = "l2_supercat", 256
CHUNK_TEXTS = 1024  # tokenised at once


class WordLlamaEncoder:
    """Mean of static token vectors; needs no fitting. A text without tokens is the zero vector.

    Attributes:
        tokenizer: splits texts into tokens.
        table: vectors of the tokens, float32 `(vocabulary, dim)`.
    """

    def __init__(self, config: WordLlamaConfig) -> None:
        self.dim: int = config.dim
        self.tokenizer, self.table = _load_model(self.dim)

    def fit(self, texts: Sequence[str]) -> None:
        """Do nothing: the vectors are pretrained."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)`."""
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for start in range(0, len(texts), CHUNK_TEXTS):
            # Tokens of all texts lie end to end: padding to the longest text, as the package's own `embed`
            # does, would need gigabytes for one very long document.
            encodings = self.tokenizer.encode_batch_fast(
                list(texts[start : start + CHUNK_TEXTS]), add_special_tokens=False
            )
            tokens = [encoding.ids for encoding in encodings]
            lengths = torch.tensor([len(ids) for ids in tokens])
            flat = torch.tensor([token for ids in tokens for token in ids], dtype=torch.int64)
            pooled = embedding_bag(flat, self.table, lengths.cumsum(0) - lengths, mode="mean")
            vectors[start : start + len(tokens)] = pooled.numpy()
        return vectors

    def cache_key(self) -> str | None:
        """Return the package version and the model."""
        return f"wordllama {version('wordllama')} {_MODEL} {self.dim}"

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the names of model and package, without the vectors."""
        return {"model": _MODEL, "wordllama": version("wordllama")}, {}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check that the state is of the same model."""
        if values["model"] != _MODEL:
            raise DataError(f"the run was made with the wordllama model {values['model']}, not {_MODEL}")


def _load_model(dim: int) -> tuple[Any, torch.Tensor]:
    """Return the tokenizer and the `(vocabulary, dim)` table from the package folder."""
    # Importing wordllama configures the root logger of the process; restore it.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        import wordllama
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    # wordllama looks for its files in the "cache" under the names that they have in the package folder.
    package = Path(wordllama.__file__).parent
    try:
        model = wordllama.WordLlama.load(
            _MODEL, cache_dir=package, dim=_WEIGHTS_DIM, trunc_dim=dim, disable_download=True
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"the wordllama package at {package} has no usable model: {error}",
            hint="pip install --force-reinstall wordllama",
        ) from error
    model.tokenizer.no_padding()
    return model.tokenizer, torch.from_numpy(np.ascontiguousarray(model.embedding, dtype=np.float32))

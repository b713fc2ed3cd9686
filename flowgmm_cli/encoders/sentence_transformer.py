"""Text encoder with a `sentence-transformers` model (extra `text`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.encoders.specs import SentenceTransformerConfig
from flowgmm_cli.errors import DataError, PluginError
from flowgmm_cli.messages import quote


class SentenceTransformerEncoder:
    """Pretrained sentence encoder; needs no fitting."""

    def __init__(self, config: SentenceTransformerConfig) -> None:
        self._config = config
        self._model = _load_model(config)
        self._model.max_seq_length = config.max_tokens
        self.dim: int = self._model.get_sentence_embedding_dimension()

    def fit(self, texts: Sequence[str]) -> None:
        """Do nothing: the vectors are pretrained."""

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return float32 `(N, dim)`."""
        if not texts:
            return np.zeros((0, self.dim), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=self._config.batch_size,
            normalize_embeddings=self._config.normalise,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    def cache_key(self) -> str | None:
        """Return all that determines the vectors, except the contents of a local model folder."""
        config = self._config
        return (
            f"sentence-transformers {version('sentence-transformers')} {config.model} {config.revision} "
            f"{config.max_tokens} {config.normalise}"
        )

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Return the name of the model, without its weights."""
        return {"model": self._config.model, "dim": self.dim}, {}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Check that the state is of the same model."""
        if (values["model"], values["dim"]) != (self._config.model, self.dim):
            raise DataError(
                f"the run was made with {values['model']} ({values['dim']} dimensions), "
                f"not {self._config.model} ({self.dim})"
            )


def _load_model(config: SentenceTransformerConfig) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise PluginError(
            "encoder `sentence_transformer` needs the package sentence-transformers",
            hint="pip install 'flowgmm-cli[text]'",
        ) from error
    try:
        return SentenceTransformer(config.model, revision=config.revision)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the model {config.model} cannot be loaded: {str(error).strip().splitlines()[0]}",
            hint=f"`hf download {quote(config.model)}` fetches it, if you trust it, since commands on a run "
            "do not use the network; data.encoder.model can be a local folder",
        ) from error

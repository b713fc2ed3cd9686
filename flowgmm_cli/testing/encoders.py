"""Checks of text encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar
from unittest import SkipTest

import numpy as np

from flowgmm_cli.api import Kind
from flowgmm_cli.testing.checks import check, expect
from flowgmm_cli.testing.component import Conformance, copy_state
from flowgmm_cli.testing.isolation import forbid_network, global_seed

_TEXTS = (
    "The match ended without a goal",
    "Shares fell after the bank's report",
    "A goal in the last minute won the match",
    "The bank's shares rose again",
    "Rain is expected in the north",
    "Heavy rain stopped the match",
    "The report on the north was late",
    "The last goal of the season",
)
_UNUSUAL = ("", "   ", "\n", "ünïcödé 漢字 🙂", "a", "word " * 3000, "\x00", "0" * 500)


class EncoderConformance(Conformance):
    """Checks of a text encoder.

        class TestMyEncoder(EncoderConformance):
            name = "my_encoder"
            config = {"dim": 16}

    Attributes:
        texts: the texts to fit and encode; at least four different ones.
        tolerance: largest difference, relative to 1 + the largest magnitude, between equal vectors.
        works_offline: True if it needs no network, since its weights are installed or local.
    """

    kind: ClassVar[Kind] = "encoder"
    texts: ClassVar[Sequence[str]] = _TEXTS
    tolerance: ClassVar[float] = 1e-5
    works_offline: ClassVar[bool] = True

    def fit(self, texts: Sequence[str] | None = None) -> Any:
        """Build an encoder and fit it."""
        encoder = self.build()
        encoder.fit(list(self.texts if texts is None else texts))
        return encoder

    fitted = fit  # the earlier name

    def actions(self) -> Mapping[str, Callable[[], Any]]:
        """Return fitting and encoding."""
        return {"fitting and encoding": self._encode}

    def _encode(self) -> Any:
        """Fit an encoder and return the vectors of `texts`."""
        return self.fit().encode(list(self.texts))

    def _expect_close(self, actual: Any, expected: Any, problem: str) -> None:
        close = actual.shape == expected.shape and np.allclose(
            actual, expected, rtol=0, atol=self.tolerance * (1 + np.abs(expected).max(initial=0))
        )
        expect(close, problem)

    @check("return a float32 array `(N, dim)`, with `dim` as it is after `fit`")
    def test_shapes(self) -> None:
        """Texts become float32 vectors (N, dim); no texts become (0, dim)."""
        encoder = self.fit()
        for texts in (list(self.texts), [self.texts[0]], []):
            vectors = encoder.encode(texts)
            expect(isinstance(vectors, np.ndarray), f"`encode` gives a `{type(vectors).__name__}`")
            shape = (len(texts), encoder.dim)
            expect(vectors.shape == shape, f"{len(texts)} texts give the shape {vectors.shape}, not {shape}")
            expect(vectors.dtype == np.float32, f"vectors are {vectors.dtype}, not float32")

    @check("let a text without tokens be the zero vector: no division by its length")
    def test_empty_text(self) -> None:
        """Empty and other unusual texts give finite vectors."""
        encoder = self.fit()
        for text in _UNUSUAL:
            finite = bool(np.isfinite(encoder.encode([text])).all())
            expect(finite, f"the text {text[:20]!r} gives a vector that is not finite")

    @check("let the vector of a text depend on more than its length; check the tokeniser")
    def test_different_texts_differ(self) -> None:
        """Different texts have different vectors, and equal texts the same vector."""
        vectors = self.fit().encode([*self.texts, self.texts[0]])
        self._expect_close(vectors[:1], vectors[-1:], "one text has two different vectors")
        distinct = len({vector.tobytes() for vector in vectors[:-1]})
        expect(distinct > 1, f"{len(self.texts)} different texts all have the same vector")

    @check("mask the padding, and use no statistics of the batch")
    def test_texts_are_independent(self) -> None:
        """A text's vector does not depend on the texts encoded with it."""
        encoder = self.fit()
        vectors = encoder.encode([*self.texts, "long " * 300])
        for index in (0, len(self.texts) - 1):
            problem = f"the vector of text {index} depends on the texts beside it"
            self._expect_close(encoder.encode([self.texts[index]]), vectors[index : index + 1], problem)

    @check("let a parameter be the seed, call .eval() on networks, and hash with zlib, not hash()")
    def test_same_texts_same_vectors(self) -> None:
        """Fitting and encoding again gives the same vectors, also after other global random numbers."""
        with global_seed(1):
            first = self._encode()
        with global_seed(2):
            second = self._encode()
        self._expect_close(first, second, "a second encoder gives other vectors")
        encoder = self.fit()
        before = encoder.encode(list(self.texts))
        encoder.encode(["something else"])
        after = encoder.encode(list(self.texts))
        self._expect_close(after, before, "encoding other texts changes the vectors")

    @check("return None from `cache_key` if `fit` changes the vectors, else name model, version, parameters")
    def test_cache_key(self) -> None:
        """Equal encoders have equal keys; with a key, the vectors do not depend on the fitting."""
        encoder, other = self.fit(), self.fit(list(self.texts)[: len(self.texts) // 2] * 2)
        keys = (encoder.cache_key(), other.cache_key())
        expect(all(key is None or (isinstance(key, str) and key) for key in keys), f"the key is {keys[0]!r}")
        expect(keys[0] == self.fit().cache_key(), "two equal encoders have different keys")
        if keys[0] is not None and keys[0] == keys[1]:
            problem = "encoders with the same key, fitted to other texts, give other vectors"
            self._expect_close(encoder.encode(list(self.texts)), other.encode(list(self.texts)), problem)

    @check("return plain JSON values and numeric arrays from `state`; restore everything in `load_state`")
    def test_state_round_trip(self) -> None:
        """A new encoder with the state of a fitted one gives the same vectors."""
        encoder, again = self.fit(), self.build()
        copy_state(encoder, again)
        expect(again.dim == encoder.dim, f"`dim` is {again.dim} after loading, and was {encoder.dim}")
        vectors, expected = again.encode(list(self.texts)), encoder.encode(list(self.texts))
        self._expect_close(vectors, expected, "the restored encoder gives other vectors")

    @check("load weights from an installed package or a local folder; or set `works_offline = False`")
    def test_offline_is_honoured(self) -> None:
        """It connects to nothing."""
        if not self.works_offline:
            raise SkipTest("the suite declares that it needs the network")
        with forbid_network("building, fitting and encoding"):
            self._encode()

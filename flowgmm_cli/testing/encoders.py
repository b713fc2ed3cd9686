"""Checks of text encoders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from flowgmm_cli.api import Kind
from flowgmm_cli.testing.check import check, expect
from flowgmm_cli.testing.component import Conformance
from flowgmm_cli.testing.surroundings import no_network, random_numbers_left_alone, shared_seed

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
_ODD = ("", "   ", "\n", "ünïcödé 漢字 🙂", "a", "word " * 3000, "\x00", "0" * 500)


class EncoderConformance(Conformance):
    """What holds for every text encoder.

        class TestMyEncoder(EncoderConformance):
            name = "my_encoder"
            config = {"dim": 16}

    Attributes:
        texts: what it is fitted to and tried on; at least four different ones.
        tolerance: largest difference, beside 1 + the largest magnitude, between vectors that should be equal.
        works_offline: whether it needs no network, as an encoder whose weights are installed or local.
    """

    kind: ClassVar[Kind] = "encoder"
    texts: ClassVar[Sequence[str]] = _TEXTS
    tolerance: ClassVar[float] = 1e-5
    works_offline: ClassVar[bool] = True

    def fitted(self, texts: Sequence[str] | None = None) -> Any:
        """A fresh encoder, fitted."""
        encoder = self.build()
        encoder.fit(list(self.texts if texts is None else texts))
        return encoder

    def _near(self, one: Any, two: Any) -> bool:
        if one.shape != two.shape:
            return False
        if not one.size:
            return True
        return float(np.abs(one - two).max()) <= self.tolerance * (1 + float(np.abs(two).max()))

    @check("return a float32 array `(N, dim)`, with `dim` as it is after `fit`")
    def test_shapes(self) -> None:
        """Texts become float32 vectors (N, dim); no texts become (0, dim)."""
        encoder = self.fitted()
        for texts in (list(self.texts), [self.texts[0]], []):
            vectors = encoder.encode(texts)
            expect(isinstance(vectors, np.ndarray), f"`encode` gives a `{type(vectors).__name__}`")
            shape = (len(texts), encoder.dim)
            expect(vectors.shape == shape, f"{len(texts)} texts give the shape {vectors.shape}, not {shape}")
            expect(vectors.dtype == np.float32, f"vectors are {vectors.dtype}, not float32")

    @check("let a text without tokens be the zero vector: no division by its length")
    def test_empty_text(self) -> None:
        """An empty text, and any other odd one, gives a finite vector."""
        encoder = self.fitted()
        for text in _ODD:
            finite = bool(np.isfinite(encoder.encode([text])).all())
            expect(finite, f"the text {text[:20]!r} gives a vector that is not finite")

    @check("let the vector of a text depend on more than its length; check the tokeniser")
    def test_different_texts_differ(self) -> None:
        """Different texts have different vectors, and a text has the same vector as itself."""
        vectors = self.fitted().encode([*self.texts, self.texts[0]])
        expect(self._near(vectors[:1], vectors[-1:]), "one text has two different vectors")
        distinct = len({one.tobytes() for one in vectors[:-1]})
        expect(distinct > 1, f"{len(self.texts)} different texts have one and the same vector")

    @check("encode each text by itself: mask the padding, take no statistics of the batch")
    def test_texts_are_independent(self) -> None:
        """A text's vector does not depend on the texts encoded with it."""
        encoder = self.fitted()
        together = encoder.encode([*self.texts, "long " * 300])
        for index in (0, len(self.texts) - 1):
            alone = encoder.encode([self.texts[index]])
            same = self._near(alone, together[index : index + 1])
            expect(same, f"the vector of text {index} depends on the texts beside it")

    @check("seed what is drawn by a parameter, call .eval() on networks, and hash with zlib, not hash()")
    def test_same_texts_same_vectors(self) -> None:
        """Fitting and encoding again gives the same vectors, whatever the process's random numbers are."""
        with shared_seed(1):
            first = self.fitted().encode(list(self.texts))
        with shared_seed(2):
            second = self.fitted().encode(list(self.texts))
        expect(self._near(first, second), "a second encoder gives other vectors")
        encoder = self.fitted()
        before = encoder.encode(list(self.texts))
        encoder.encode(["something else"])
        expect(
            self._near(encoder.encode(list(self.texts)), before), "encoding other texts changes the vectors"
        )

    @check("draw from a generator with a seed that is a parameter")
    def test_global_random_numbers_are_left_alone(self) -> None:
        """Neither fitting nor encoding draws from, or seeds, the process's random numbers."""
        self.fitted().encode(list(self.texts))  # what is imported only now may do what it likes
        with random_numbers_left_alone("fitting and encoding"):
            self.fitted().encode(list(self.texts))

    @check(
        "return None from `cache_key` where `fit` changes the vectors, else name model, version, parameters"
    )
    def test_cache_key(self) -> None:
        """Equal encoders have equal keys; with a key, the vectors do not depend on the fitting."""
        one, two = self.fitted(), self.fitted(list(self.texts)[: len(self.texts) // 2] * 2)
        keys = (one.cache_key(), two.cache_key())
        expect(all(key is None or (isinstance(key, str) and key) for key in keys), f"the key is {keys[0]!r}")
        expect(keys[0] == self.fitted().cache_key(), "two equal encoders have different keys")
        if keys[0] is not None and keys[0] == keys[1]:
            same = self._near(one.encode(list(self.texts)), two.encode(list(self.texts)))
            expect(same, "encoders with one key, fitted to other texts, give other vectors")

    @check("return plain JSON values and numeric arrays from `state`; restore everything in `load_state`")
    def test_state_round_trip(self) -> None:
        """A fresh encoder that is given the state of a fitted one gives the same vectors."""
        encoder = self.fitted()
        values, arrays = encoder.state()
        expect(isinstance(values, Mapping) and isinstance(arrays, Mapping), "`state` gives no two mappings")
        plain = json.loads(json.dumps(dict(values), allow_nan=False))
        kinds = {name: np.asarray(one).dtype.kind for name, one in arrays.items()}
        wrong = [name for name, kind in kinds.items() if kind not in "fiub"]
        expect(not wrong, f"the array `{wrong[0] if wrong else ''}` holds no numbers")
        again = self.build()
        again.load_state(plain, {name: np.array(one) for name, one in arrays.items()})
        expect(again.dim == encoder.dim, f"`dim` is {again.dim} after loading, and was {encoder.dim}")
        want = encoder.encode(list(self.texts))
        expect(self._near(again.encode(list(self.texts)), want), "the restored encoder gives other vectors")

    @check("load weights from an installed package or a local folder; or set `works_offline = False`")
    def test_offline_is_honoured(self) -> None:
        """It connects to nothing."""
        if not self.works_offline:
            return
        with no_network("building, fitting and encoding"):
            self.fitted().encode(list(self.texts))

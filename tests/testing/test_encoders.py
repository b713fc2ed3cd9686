from __future__ import annotations

import contextlib
import socket
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from suites import expect_caught, suite_of

from flowgmm_cli.api import Config, EncoderSpec, Field
from flowgmm_cli.testing import EncoderConformance


class Settings(Config):
    """Parameters of all of them."""

    dim: int = Field(8, ge=1, description="length of the vectors")


class Right:
    """Counts of words by the hash of their letters; correct."""

    def __init__(self, config: Settings) -> None:
        self.dim = config.dim

    def fit(self, texts: Sequence[str]) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> Any:
        actual = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                actual[row, zlib.crc32(word.encode()) % self.dim] += 1
        return actual

    def cache_key(self) -> str | None:
        return f"words {self.dim}"

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        pass


class Float64(Right):
    def encode(self, texts: Sequence[str]) -> Any:
        return super().encode(texts).astype(np.float64)


class WrongWidth(Right):
    def encode(self, texts: Sequence[str]) -> Any:
        return super().encode(texts)[:, 1:]


class NanForEmpty(Right):
    def encode(self, texts: Sequence[str]) -> Any:
        actual = super().encode(texts)
        with np.errstate(invalid="ignore"):
            return actual / actual.sum(1, keepdims=True)


class AllTheSame(Right):
    def encode(self, texts: Sequence[str]) -> Any:
        return np.ones((len(texts), self.dim), np.float32)


class BatchMean(Right):
    def encode(self, texts: Sequence[str]) -> Any:
        actual = super().encode(texts)
        return actual - actual.mean(0) if len(actual) > 1 else actual


class GlobalWeights(Right):
    def __init__(self, config: Settings) -> None:
        super().__init__(config)
        self.weights = np.random.normal(size=self.dim).astype(np.float32)

    def encode(self, texts: Sequence[str]) -> Any:
        return super().encode(texts) * self.weights


class KeyThoughFitted(Right):
    scale: Any = 1.0

    def fit(self, texts: Sequence[str]) -> None:
        self.scale = np.float32(len(set(texts)))

    def encode(self, texts: Sequence[str]) -> Any:
        return super().encode(texts) * self.scale

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"scale": np.array(self.scale)}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.scale = arrays["scale"]


class KeyOfTheObject(Right):
    def cache_key(self) -> str | None:
        return str(id(self))


class StateLeftOut(KeyThoughFitted):
    def cache_key(self) -> str | None:
        return None

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"scale": np.array(np.float32(1))}


class StateNotJson(Right):
    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {"words": {"a", "b"}}, {}


class UsesTheNetwork(Right):
    def fit(self, texts: Sequence[str]) -> None:
        with contextlib.suppress(OSError):  # as libraries do that try first and fall back to their cache
            socket.create_connection(("192.0.2.1", 80), timeout=0.1)


WRONG = [
    ("test_shapes", Float64),
    ("test_shapes", WrongWidth),
    ("test_empty_text", NanForEmpty),
    ("test_different_texts_differ", AllTheSame),
    ("test_texts_are_independent", BatchMean),
    ("test_same_texts_same_vectors", GlobalWeights),
    ("test_global_random_numbers_are_left_alone", GlobalWeights),
    ("test_cache_key", KeyThoughFitted),
    ("test_cache_key", KeyOfTheObject),
    ("test_state_round_trip", StateLeftOut),
    ("test_state_round_trip", StateNotJson),
    ("test_offline_is_honoured", UsesTheNetwork),
]


SPEC = EncoderSpec(config=Settings, build="x:y", summary="An encoder")


def suite(component: type[Right]) -> type[Any]:
    return suite_of(EncoderConformance, SPEC, component)


@pytest.mark.parametrize(
    ("check", "wrong"), WRONG, ids=[f"{wrong.__name__}-{check[5:]}" for check, wrong in WRONG]
)
def test_each_wrong_encoder_is_caught_by_the_check_that_names_it(check: str, wrong: type[Right]) -> None:
    expect_caught(suite(Right), suite(wrong), check)


class TestTfidfSvd(EncoderConformance):
    name = "tfidf_svd"
    config = {"dim": 4, "min_df": 1}  # noqa: RUF012


@pytest.mark.slow
class TestWordLlama(EncoderConformance):
    name = "wordllama"
    config = {"dim": 64}  # noqa: RUF012

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

    scale: Any = np.float32(1)

    def __init__(self, config: Settings) -> None:
        self.dim = config.dim

    def fit(self, texts: Sequence[str]) -> None:
        pass

    def encode(self, texts: Sequence[str]) -> Any:
        actual = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                actual[row, zlib.crc32(word.encode()) % self.dim] += 1
        return actual * self.scale

    def cache_key(self) -> str | None:
        return f"words {self.dim}"

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {}, {"scale": np.array(self.scale)}

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
        self.scale = arrays["scale"]


def means(self: Right, texts: Sequence[str]) -> Any:
    actual = Right.encode(self, texts)
    with np.errstate(invalid="ignore"):
        return actual / actual.sum(1, keepdims=True)


def centred(self: Right, texts: Sequence[str]) -> Any:
    actual = Right.encode(self, texts)
    return actual - actual.mean(0) if len(actual) > 1 else actual


def draw_scale(self: Right, config: Settings) -> None:
    Right.__init__(self, config)
    self.scale = np.float32(np.random.normal())


def learn_scale(self: Right, texts: Sequence[str]) -> None:
    self.scale = np.float32(len(set(texts)))


def connect(self: Right, texts: Sequence[str]) -> None:
    with contextlib.suppress(OSError):  # as libraries do that try first and fall back to their cache
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)


WRONG: dict[str, dict[str, Any]] = {
    "test_shapes (float64)": {"encode": lambda self, texts: Right.encode(self, texts).astype(np.float64)},
    "test_shapes (width)": {"encode": lambda self, texts: Right.encode(self, texts)[:, 1:]},
    "test_empty_text": {"encode": means},
    "test_different_texts_differ": {"encode": lambda self, texts: np.ones((len(texts), 8), np.float32)},
    "test_texts_are_independent": {"encode": centred},
    "test_same_texts_same_vectors": {"__init__": draw_scale},
    "test_global_random_numbers_are_left_alone": {"__init__": draw_scale},
    "test_cache_key (fitted)": {"fit": learn_scale},
    "test_cache_key (of the object)": {"cache_key": lambda self: str(id(self))},
    "test_state_round_trip (left out)": {
        "fit": learn_scale,
        "cache_key": lambda self: None,
        "state": lambda self: ({}, {"scale": np.array(np.float32(1))}),
    },
    "test_state_round_trip (no JSON)": {"state": lambda self: ({"words": {"a", "b"}}, {})},
    "test_offline_is_honoured": {"fit": connect},
}
SPEC = EncoderSpec(config=Settings, build="x:y", summary="An encoder")


@pytest.mark.parametrize("case", WRONG)
def test_each_wrong_encoder_is_caught_by_the_check_that_names_it(case: str) -> None:
    wrong = type("Wrong", (Right,), WRONG[case])
    expect_caught(suite_of(EncoderConformance, SPEC, Right), suite_of(EncoderConformance, SPEC, wrong), case)


class TestTfidfSvd(EncoderConformance):
    name = "tfidf_svd"
    config = {"dim": 4, "min_df": 1}  # noqa: RUF012


@pytest.mark.slow
class TestWordLlama(EncoderConformance):
    name = "wordllama"
    config = {"dim": 64}  # noqa: RUF012

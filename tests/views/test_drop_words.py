from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.views.drop_words import DropWords
from flowgmm_cli.views.specs import DropWordsConfig


def seen(texts: list[str], rate: float, seed: int = 0) -> list[str]:
    return DropWords(DropWordsConfig(rate=rate))(texts, np.random.default_rng(seed))


def test_the_given_share_of_the_words_is_left_out() -> None:
    text = " ".join(f"w{number}" for number in range(50))
    kept = [len(one.split()) / 50 for one in seen([text] * 1000, 0.3)]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.01)
    assert np.std(kept) == pytest.approx((0.3 * 0.7 / 50) ** 0.5, rel=0.1)


@given(
    texts=st.lists(st.text(alphabet="ab \n\t", max_size=20), max_size=5),
    rate=st.floats(0, 0.999),
    seed=st.integers(0, 5),
)
def test_words_keep_their_order_and_one_always_stays(texts: list[str], rate: float, seed: int) -> None:
    for before, after in zip(texts, seen(texts, rate, seed), strict=True):
        left = iter(before.split())
        assert all(any(word == other for other in left) for word in after.split())
        assert bool(after) == bool(before.split())


def test_the_word_that_stays_is_any_of_them() -> None:
    assert set(seen(["a b c"] * 200, 0.999)) >= {"a", "b", "c"}


def test_a_rate_of_zero_leaves_all_words() -> None:
    assert seen(["one  two\nthree", ""], 0.0) == ["one two three", ""]


def test_the_generator_decides() -> None:
    text = " ".join("abcdefghij")
    assert seen([text], 0.5, seed=1) == seen([text], 0.5, seed=1) != seen([text], 0.5, seed=2)

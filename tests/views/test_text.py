from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.views.specs import DropWordsConfig
from flowgmm_cli.views.text import DropWords


def drop_words(texts: list[str], rate: float, seed: int = 0) -> list[str]:
    return DropWords(DropWordsConfig(rate=rate))(texts, np.random.default_rng(seed))


def test_the_given_share_of_the_words_is_left_out() -> None:
    text = " ".join(f"w{number}" for number in range(50))
    kept = [len(text.split()) / 50 for text in drop_words([text] * 1000, 0.3)]
    assert np.mean(kept) == pytest.approx(0.7, abs=0.01)
    assert np.std(kept) == pytest.approx((0.3 * 0.7 / 50) ** 0.5, rel=0.1)


@given(
    texts=st.lists(st.text(alphabet="ab \n\t", max_size=20), max_size=5),
    rate=st.floats(0, 0.999),
    seed=st.integers(0, 5),
)
def test_words_keep_their_order_and_at_least_a_single_word_stays(
    texts: list[str], rate: float, seed: int
) -> None:
    for before, after in zip(texts, drop_words(texts, rate, seed), strict=True):
        left = iter(before.split())
        assert all(any(word == other for other in left) for word in after.split())
        assert bool(after) == bool(before.split())


def test_the_last_remaining_word_is_random() -> None:
    assert set(drop_words(["a b c"] * 200, 0.999)) >= {"a", "b", "c"}


def test_a_rate_of_zero_leaves_all_words() -> None:
    assert drop_words(["one  two\nthree", ""], 0.0) == ["one two three", ""]

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.views.rows import Corrupt, Drop, DropWords, Noise
from flowgmm_cli.views.specs import CorruptConfig, DropConfig, DropWordsConfig, NoiseConfig


def test_noise_has_mean_zero_and_the_given_spread() -> None:
    x = torch.full((4000, 25), 3.0)
    noise = Noise(NoiseConfig(scale=0.5))(x, torch.Generator().manual_seed(0)) - x
    assert float(noise.mean()) == pytest.approx(0, abs=0.01)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.01)
    assert float(noise.square().square().mean() / noise.square().mean() ** 2) == pytest.approx(3, rel=0.05)
    correlation = torch.corrcoef(noise.T) - torch.eye(25)
    assert float(correlation.abs().max()) < 0.1


def test_the_given_share_is_dropped_and_the_rest_stays_as_it_is() -> None:
    x = torch.randn(4000, 25, generator=torch.Generator().manual_seed(1))
    seen = Drop(DropConfig(rate=0.3))(x, torch.Generator().manual_seed(0))
    dropped = seen == 0
    assert float(dropped.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(seen[~dropped], x[~dropped])
    # each row and each feature alike, and not whole rows or columns at once
    assert float((dropped.double().mean(0) - 0.3).abs().max()) < 0.04
    assert float(dropped.double().mean(1).std()) == pytest.approx((0.3 * 0.7 / 25) ** 0.5, rel=0.1)


def test_the_given_share_comes_from_the_same_column_of_other_rows() -> None:
    x = torch.arange(3000.0 * 4).reshape(3000, 4)  # every value once
    seen = Corrupt(CorruptConfig(rate=0.3))(x, torch.Generator().manual_seed(0))
    assert float((seen != x).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(seen % 4, x % 4)
    assert len(seen[seen != x].unique()) > 0.7 * int((seen != x).sum())  # many donors, not a few


def test_a_batch_of_a_single_row_stays_as_it_is() -> None:
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(Corrupt(CorruptConfig(rate=0.9))(x, torch.Generator().manual_seed(0)), x)


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

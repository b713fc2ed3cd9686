from __future__ import annotations

import pytest
import torch

from flowgmm_cli.views.corrupt import Corrupt
from flowgmm_cli.views.specs import CorruptConfig


def test_the_given_share_comes_from_the_same_column_of_other_rows() -> None:
    x = torch.arange(3000.0 * 4).reshape(3000, 4)  # every value once
    seen = Corrupt(CorruptConfig(rate=0.3))(x, torch.Generator().manual_seed(0))
    assert float((seen != x).double().mean()) == pytest.approx(0.3, abs=0.02)
    assert torch.equal(seen % 4, x % 4)
    assert len(seen[seen != x].unique()) > 0.7 * int((seen != x).sum())  # many donors, not a few


def test_a_rate_of_zero_corrupts_nothing() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Corrupt(CorruptConfig(rate=0.0))(x, torch.Generator().manual_seed(0)), x)


def test_a_batch_of_one_row_has_no_other_row_to_draw_from() -> None:
    x = torch.tensor([[1.0, 2.0]])
    assert torch.equal(Corrupt(CorruptConfig(rate=0.9))(x, torch.Generator().manual_seed(0)), x)

from __future__ import annotations

import pytest
import torch

from flowgmm_cli.views.drop import Drop
from flowgmm_cli.views.specs import DropConfig


def test_the_given_share_is_dropped_and_the_rest_stays_as_it_is() -> None:
    x = torch.randn(4000, 25, generator=torch.Generator().manual_seed(1))
    seen = Drop(DropConfig(rate=0.3))(x, torch.Generator().manual_seed(0))
    dropped = seen == 0
    assert float(dropped.double().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(seen[~dropped], x[~dropped])
    # each row and each feature alike, and not whole rows or columns at once
    assert float((dropped.double().mean(0) - 0.3).abs().max()) < 0.04
    assert float(dropped.double().mean(1).std()) == pytest.approx((0.3 * 0.7 / 25) ** 0.5, rel=0.1)


def test_a_rate_of_zero_drops_nothing() -> None:
    x = torch.randn(1000, 30, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Drop(DropConfig(rate=0.0))(x, torch.Generator().manual_seed(0)), x)

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowgmm_cli.views.affine import Affine
from flowgmm_cli.views.specs import AffineConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_channels_move_together() -> None:
    x, config = images(5, 3, 8, 8), AffineConfig(pixels=2, degrees=30)
    whole = Affine(config, shape=(3, 8, 8), high=1.0)(x, torch.Generator().manual_seed(0))
    alone = Affine(config, shape=(1, 8, 8), high=1.0)
    for channel in range(3):
        seen = alone(x[:, channel : channel + 1], torch.Generator().manual_seed(0))
        torch.testing.assert_close(whole[:, channel : channel + 1], seen)


def test_each_row_moves_by_its_own_draw_up_to_the_largest_change() -> None:
    x = torch.zeros(4000, 1, 9, 9)
    x[:, :, 4, 4] = 1
    view = Affine(AffineConfig(pixels=2.0), shape=(1, 9, 9), high=1.0)
    seen = view(x, torch.Generator().manual_seed(0))[:, 0]
    place = torch.arange(9.0) - 4
    right, down = (seen.sum(1) * place).sum(1), (seen.sum(2) * place).sum(1)
    for shift in (right, down):
        assert float(shift.abs().max()) <= 2.001
        assert float(shift.mean()) == pytest.approx(0, abs=0.1)
        assert float(shift.std()) == pytest.approx(4 / 12**0.5, rel=0.05)  # evenly spread
    assert abs(float(torch.corrcoef(torch.stack([right, down]))[0, 1])) < 0.05


@pytest.mark.parametrize("words", [{"pixels": 0.0}, {"pixels": 0.0, "padding": "border"}])
def test_without_any_change_images_stay_as_they_are(words: dict[str, float]) -> None:
    x = images(4, 1, 8, 8)
    view = Affine(AffineConfig.model_validate(words), shape=(1, 8, 8), high=1.0)
    torch.testing.assert_close(view(x, torch.Generator()), x)

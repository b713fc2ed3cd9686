from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import pixel_unshuffle

from flowgmm_cli.flows.layers.pixels import Logit, Squeeze, row_order


def test_logits_of_three_pixels_are_those_by_hand() -> None:
    z, log_det = Logit(0.05)(torch.tensor([[0.5, 0.0, 1.0]], dtype=torch.float64))
    # y = 0.5, 0.05, 0.95; logit 0, -ln 19, ln 19; slopes 0.9 / 0.25, 0.9 / 0.0475 twice
    assert z[0].tolist() == pytest.approx([0, -math.log(19), math.log(19)], abs=1e-12)
    assert log_det.item() == pytest.approx(math.log(3.6) + 2 * math.log(0.9 / 0.0475), abs=1e-12)


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_outside_the_interval_the_logit_is_its_tangent(alpha: float) -> None:
    layer = Logit(alpha)
    edge = torch.tensor([[1.0]], dtype=torch.float64).requires_grad_()
    z, log_det = layer(edge)
    far, far_log_det = layer(edge.detach() + 3)
    slope = (1 - 2 * alpha) / (alpha * (1 - alpha))
    torch.testing.assert_close(far, z.detach() + 3 * slope, rtol=1e-9, atol=0)
    torch.testing.assert_close(far_log_det, log_det.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(layer.inverse(far), edge.detach() + 3, rtol=1e-9, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5, -0.1])
def test_an_alpha_without_a_logit_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1/2"):
        Logit(alpha)


def test_halves_of_squeezed_channels_are_the_colours_of_a_checkerboard() -> None:
    row, column = torch.meshgrid(torch.arange(6), torch.arange(4), indexing="ij")
    colour = ((row + column) % 2).float().expand(1, 3, 6, 4)
    z, log_det = Squeeze()(colour)
    assert z.shape == (1, 12, 3, 2)
    assert (z[:, :6] == 0).all()
    assert (z[:, 6:] == 1).all()
    assert log_det.tolist() == [0.0]


def test_in_row_order_the_halves_are_even_and_odd_rows() -> None:
    row = (torch.arange(6) % 2)[:, None].expand(1, 3, 6, 4)
    z = Squeeze()(row)[0].index_select(1, row_order(12))
    assert (z[:, :6] == 0).all()
    assert (z[:, 6:] == 1).all()


def test_row_order_is_its_own_inverse() -> None:
    order = row_order(8)
    assert torch.equal(order[order], torch.arange(8))


def test_squeeze_has_the_same_blocks_as_pixel_unshuffle() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    channels = Squeeze()(x)[0].unflatten(1, (4, 3))
    unshuffled = pixel_unshuffle(x, 2).unflatten(1, (3, 4)).transpose(1, 2)
    assert torch.equal(channels, unshuffled[:, [0, 3, 1, 2]])

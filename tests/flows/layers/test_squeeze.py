from __future__ import annotations

import torch
from torch.nn.functional import pixel_unshuffle

from flowgmm_cli.flows.layers.squeeze import Squeeze, rows_first


def test_halves_of_the_channels_are_the_colours_of_a_checkerboard() -> None:
    row, column = torch.meshgrid(torch.arange(6), torch.arange(4), indexing="ij")
    colour = ((row + column) % 2).float().expand(1, 3, 6, 4)
    z, log_det = Squeeze()(colour)
    assert z.shape == (1, 12, 3, 2)
    assert (z[:, :6] == 0).all()
    assert (z[:, 6:] == 1).all()
    assert log_det.tolist() == [0.0]


def test_behind_rows_first_halves_are_even_and_odd_rows() -> None:
    row = (torch.arange(6) % 2)[:, None].expand(1, 3, 6, 4)
    z = Squeeze()(row)[0].index_select(1, rows_first(12))
    assert (z[:, :6] == 0).all()
    assert (z[:, 6:] == 1).all()


def test_rows_first_undoes_itself() -> None:
    order = rows_first(8)
    assert torch.equal(order[order], torch.arange(8))


def test_it_holds_the_same_blocks_as_pixel_unshuffle() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    mine = Squeeze()(x)[0].unflatten(1, (4, 3))
    theirs = pixel_unshuffle(x, 2).unflatten(1, (3, 4)).transpose(1, 2)
    assert torch.equal(mine, theirs[:, [0, 3, 1, 2]])

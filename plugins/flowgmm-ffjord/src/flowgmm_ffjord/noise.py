"""Random signs that follow from the rows and the weights.

A flow gets no generator in `forward`, and may neither draw from torch's global generator nor keep state. Its
noise is therefore a hash of the bits of a row, of the weights, and of the position. Each step has other
weights and other noise. Equal calls have equal noise, independently of the other rows of the batch, and a
resumed run continues with the same noise. All of it is computed on the device.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood, 2014).
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEP = -7046029254386353131  # the constants of SplitMix64, as signed numbers
_FIRST = -4658895280553007687
_SECOND = -7723592293110705685


def mix(number: Tensor) -> Tensor:
    """Spread int64 numbers over all of their 64 bits, one to one."""
    number = (number ^ _shift(number, 30)) * _FIRST
    number = (number ^ _shift(number, 27)) * _SECOND
    return number ^ _shift(number, 31)


@torch.no_grad()
def row_keys(x: Tensor) -> Tensor:
    """A number for each row of `(N, D)`, from its bits in float32: int64 `(N,)`."""
    bits = x.detach().to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    places = torch.arange(1, x.shape[1] + 1, device=x.device) * _STEP
    return mix(mix(bits + places).sum(1))  # integers wrap around, so the order of the sum does not matter


@torch.no_grad()
def tensor_key(weight: Tensor) -> Tensor:
    """One number for all of a weight's bits: int64 `()`."""
    return row_keys(weight.reshape(1, -1))[0]


@torch.no_grad()
def random_signs(rows: Tensor, features: int) -> Tensor:
    """Numbers -1 and 1 for each key `(N,)`: float32 `(N, D)`."""
    places = mix(torch.arange(1, features + 1, device=rows.device) * _STEP)
    return (mix(rows[:, None] ^ places) & 1).to(torch.float32) * 2 - 1


def _shift(number: Tensor, places: int) -> Tensor:
    return (number >> places) & ((1 << (64 - places)) - 1)

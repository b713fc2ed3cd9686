"""Random signs that follow from the rows and the weights.

A flow is given no generator when it maps rows, and may neither draw from torch's global one nor keep state.
So its noise is a hash: of the bits of a row, of the weights, and of the place. Every step has other weights
and so other noise; the same call has the same noise, whatever rows are beside a row, and a resumed run goes
on with the noise it would have had. All of it happens on the device.

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
def keys(x: Tensor) -> Tensor:
    """A number for each row of `(N, D)`, from its bits in float32: int64 `(N,)`."""
    bits = x.detach().to(torch.float32).contiguous().view(torch.int32).to(torch.int64)
    places = torch.arange(1, x.shape[1] + 1, device=x.device) * _STEP
    return mix(mix(bits + places).sum(1))  # integers wrap around, the same in whatever order they are added


@torch.no_grad()
def key(weight: Tensor) -> Tensor:
    """One number for all of a weight's bits: int64 `()`."""
    return keys(weight.reshape(1, -1))[0]


@torch.no_grad()
def signs(rows: Tensor, features: int) -> Tensor:
    """Numbers -1 and 1 for each key `(N,)`: float32 `(N, D)`."""
    places = mix(torch.arange(1, features + 1, device=rows.device) * _STEP)
    return (mix(rows[:, None] ^ places) & 1).to(torch.float32) * 2 - 1


def _shift(number: Tensor, places: int) -> Tensor:
    return (number >> places) & ((1 << (64 - places)) - 1)

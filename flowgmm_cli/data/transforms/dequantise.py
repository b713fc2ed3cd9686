"""Transform `dequantise`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.data.specs import DequantiseConfig
from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.errors import DataError

_STEP = 0x9E3779B97F4A7C15 - 2**64  # 2^64 / golden ratio, as a signed number
_MULTIPLIERS = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


class Dequantise(Transform):
    r"""Whole numbers :math:`v \in \{0, \dots, L - 1\}` to :math:`x = (v + u) / L` with u uniform on [0, 1).

    A density of x bounds the probability of the whole numbers (Theis et al., 2016, section 3.1),

    .. math:: \log P(v) \ge \mathbb{E}_u \big[\log p(x)\big] - D \log L

    and the log-determinant :math:`-D \log L` makes `log p` the right-hand side, so that bits per dimension
    are :math:`-\log p / (D \log 2)` without further terms.

    Training draws a new u in each step (`draw`). Everywhere else the result of a row must not depend on the
    call or on the other rows: there u is a hash of the row's numbers and of the column index.
    """

    random = True
    fits = False

    def __init__(self, config: DequantiseConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.levels = config.levels

    def fit(self, x: Tensor) -> None:
        """Check that training rows `x` `(N, D)` are whole numbers from 0 to L - 1; nothing is learned."""
        low, high = float(x.min()), float(x.max())
        whole = not x.is_floating_point() or bool((x == x.round()).all())
        if not whole or low < 0 or high > self.levels - 1:
            observed = "fractions" if not whole else f"numbers from {low:g} to {high:g}"
            raise DataError(
                f"`dequantise` takes whole numbers from 0 to {self.levels - 1}, and the rows hold {observed}",
                hint="leave it out, or set `levels` to the largest number plus 1"
                if whole and low >= 0
                else "leave it out: these numbers have a density as they are",
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows in [0, 1) and the log-determinant; the noise is a function of the row."""
        whole = self._whole(x)
        noise = _hash_noise(whole).to(x)
        # straight-through: rounding has no derivative
        return self._add_noise(x + (whole - x).detach(), noise), self._log_det(x)

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return rows with noise from `generator`; fractions, which views make, are rounded."""
        noise = torch.empty_like(x).uniform_(generator=generator)
        return self._add_noise(self._whole(x), noise)

    def inverse(self, z: Tensor) -> Tensor:
        """Return the whole numbers."""
        return (z * self.levels).floor().clamp(0, self.levels - 1)

    def _whole(self, x: Tensor) -> Tensor:
        return x.round().clamp(0, self.levels - 1)

    def _add_noise(self, whole: Tensor, noise: Tensor) -> Tensor:
        # float32 rounding must not carry a value to the next whole number
        margin = 2 * self.levels * torch.finfo(torch.float32).eps
        return (whole + noise.clamp(margin, 1 - margin)) / self.levels

    def _log_det(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        value = -self.in_features * math.log(self.levels)
        return torch.full((len(x),), value, dtype=dtype, device=x.device)


def _hash_noise(whole: Tensor) -> Tensor:
    """Return pseudo-uniform noise in [0, 1), a function of the row and the column, float64 or float32.

    The finaliser of SplitMix64 (Steele et al., 2014) on a weighted sum of the row plus a step for each
    column; products of int64 are meant to wrap.
    """
    numbers = whole.long() + 1
    columns = torch.arange(1, whole.shape[1] + 1, device=whole.device)
    key = _mix((numbers * _mix(columns * _STEP)).sum(1, keepdim=True))
    bits = (_mix(key + columns * _STEP) >> 11) & ((1 << 53) - 1)
    precise = whole.dtype == torch.float64
    return bits.double() / 2**53 if precise else (bits >> 29).float() / 2**24


def _mix(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLIERS[0]
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLIERS[1]
    return x ^ ((x >> 31) & ((1 << 33) - 1))

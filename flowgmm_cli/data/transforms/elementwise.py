"""Transforms `standardise`, `scale`, `clip` and `dequantise`: each acts on every feature by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowgmm_cli.bijection import zero_log_det
from flowgmm_cli.data.specs import ClipConfig, DequantiseConfig, ScaleConfig, StandardiseConfig
from flowgmm_cli.data.transforms.base import Transform, column_std
from flowgmm_cli.errors import DataError


class Standardise(Transform):
    r"""Mean 0 and standard deviation 1 for each feature: :math:`z_i = (x_i - m_i) / s_i`.

    A feature that is constant in the training rows keeps its scale.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: StandardiseConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Compute means and standard deviations."""
        std = column_std(x)
        self.mean = x.mean(dim=0)
        self.scale = torch.where(std > 0, std, torch.ones_like(std))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`-\sum_i \log s_i`."""
        return (x - self.mean) / self.scale, -self.scale.log().sum().expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z * self.scale + self.mean


class Scale(Transform):
    r"""All features multiplied by one number :math:`a`; the default makes their mean variance 1.

    The directions of the data keep their relative sizes, which matters to embeddings.
    """

    factor: Tensor

    config: ScaleConfig

    def __init__(self, config: ScaleConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.register_buffer("factor", torch.tensor(config.factor or 1.0, dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Compute the factor, unless the configuration sets it."""
        if self.config.factor is None:
            variance = column_std(x).square().mean()
            self.factor = torch.where(variance > 0, variance.rsqrt(), torch.ones_like(variance))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`D \log a`."""
        return x * self.factor, (self.in_features * self.factor.log()).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return z / self.factor


class Clip(Transform):
    """Limit each feature to [-limit, limit], in the units of the preceding transform.

    Bounds outlying cells (sentinels, detector faults). Clipped values cannot be restored, so the log-det is 0
    and the density is that of the clipped rows.
    """

    def __init__(self, config: ClipConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        self.limit = config.limit

    @property
    def inexact(self) -> str:
        """Reason: clipping cannot be undone."""
        return f"clip cuts values beyond {self.limit:g}; the density is that of clipped rows"

    def fit(self, x: Tensor) -> None:
        """Do nothing: the limit is given."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clipped rows and zeros."""
        return x.clamp(-self.limit, self.limit), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return `z`, which is exact for rows that were not clipped."""
        return z

    def extra_repr(self) -> str:
        """Show the limit."""
        return f"limit={self.limit:g}"


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

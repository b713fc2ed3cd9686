"""Transform `quantile`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flowgmm_cli.data.transforms.base import Transform
from flowgmm_cli.data.transforms.segments import Segments, search

if TYPE_CHECKING:
    from flowgmm_cli.data.specs import QuantileConfig


class Quantile(Transform):
    """Each feature to a standard normal through its training quantiles.

    The map is linear between knots `(quantile of the feature, the same quantile of N(0, 1))` and beyond the
    outermost ones, so it is strictly increasing, invertible everywhere, and its log-det is exact (the sum of
    the log-slopes; at a knot, the slope to its right). Values that fill several quantiles share one knot in
    the middle of their range. A constant feature is only shifted.

    Args:
        features: D.
        knots: number of quantiles; fewer if there are fewer training rows.
    """

    inputs: Tensor
    outputs: Tensor

    def __init__(self, features: int, knots: int = 256) -> None:
        super().__init__(features)
        self._knots = knots
        line = torch.arange(2, dtype=torch.float64).repeat(features, 1)
        self.register_buffer("inputs", line)
        self.register_buffer("outputs", line.clone())
        self._segments: dict[str, tuple[Tensor, int, Segments]] = {}

    def fit(self, x: Tensor) -> None:
        """Take the quantiles of each feature."""
        count = max(2, min(self._knots, len(x)))
        # The outermost knots stand at half a row, where the normal quantiles are finite.
        half = 0.5 / max(len(x), 2)
        probabilities = torch.linspace(half, 1 - half, count, dtype=torch.float64)
        ordered = x.sort(dim=0).values
        places = (probabilities * len(x) - 0.5).clamp(0, len(x) - 1)
        low, high = places.floor().long(), places.ceil().long()
        quantiles = torch.lerp(ordered[low], ordered[high], (places - low)[:, None].to(x.dtype))
        knots = [_with_tails(*_merged(column, probabilities)) for column in quantiles.T]
        longest = max(len(inputs) for inputs, _ in knots)
        self.inputs = torch.stack([_extended(inputs, longest) for inputs, _ in knots])
        self.outputs = torch.stack([_extended(outputs, longest) for _, outputs in knots])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and the sum of the log-slopes."""
        z, slopes = self._between("inputs", "outputs", x)
        return z, slopes.log().sum(dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return self._between("outputs", "inputs", z)[0]

    def _between(self, source: str, target: str, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map `points` `(N, D)` linearly between knots of two buffers; return also the slopes `(N, D)`."""
        knots, values = self.get_buffer(source), self.get_buffer(target)
        segment = self._segment(source, points.detach().T.contiguous())
        left, right = knots.gather(1, segment), knots.gather(1, segment + 1)
        low, high = values.gather(1, segment), values.gather(1, segment + 1)
        slopes = (high - low) / (right - left)
        return (low + (points.T - left) * slopes).T, slopes.T

    def _segment(self, source: str, points: Tensor) -> Tensor:
        knots = self.get_buffer(source)
        if not Segments.worth(knots, points):
            return search(knots, points)
        known = self._segments.get(source)
        if known is None or known[0] is not knots or known[1] != knots._version:
            known = self._segments[source] = (knots, knots._version, Segments(knots))
        return known[2](points)


def _merged(quantiles: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Knots of one feature, strictly increasing: those that (nearly) coincide become one."""
    size = quantiles.abs().max()
    gap = torch.maximum(1e-9 * (quantiles[-1] - quantiles[0]), 1e-13 * size)
    group = torch.zeros(len(quantiles), dtype=torch.int64)
    last = quantiles[0]
    for index in range(1, len(quantiles)):
        apart = bool(quantiles[index] - last > gap)
        group[index] = group[index - 1] + int(apart)
        last = quantiles[index] if apart else last
    members = group.bincount().to(torch.float64)
    centre = torch.zeros_like(members).index_add_(0, group, probabilities) / members
    first = torch.searchsorted(group, torch.arange(len(members)))
    return quantiles[first], torch.special.ndtri(centre)


def _with_tails(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Add a knot on either side, as far out as the feature's range is wide.

    The slope there is that of the outermost segment, but no steeper than the whole line: two training values
    that lie close together at an end must not throw a new value far out.
    """
    if len(inputs) == 1:
        reach, low, high = inputs.abs().clamp_min(1.0)[0], torch.ones(()), torch.ones(())
    else:
        reach = inputs[-1] - inputs[0]
        slopes = outputs.diff() / inputs.diff()
        whole = (outputs[-1] - outputs[0]) / reach
        low, high = slopes[0].minimum(whole), slopes[-1].minimum(whole)
    return (
        torch.cat([inputs[:1] - reach, inputs, inputs[-1:] + reach]),
        torch.cat([outputs[:1] - reach * low, outputs, outputs[-1:] + reach * high]),
    )


def _extended(values: Tensor, length: int) -> Tensor:
    """Continue the last step of a feature's knots, so that all features have the same number of them."""
    steps = torch.arange(1, length - len(values) + 1, dtype=values.dtype)
    return torch.cat([values, values[-1] + steps * (values[-1] - values[-2])])


def build(config: QuantileConfig, *, features: int) -> Quantile:
    """Build the transform for `features` columns."""
    return Quantile(features, config.n_quantiles)

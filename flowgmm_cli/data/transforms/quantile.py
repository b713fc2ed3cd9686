"""Transform `quantile`, a piecewise-linear map, and the search for the segments of many values."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.data.specs import QuantileConfig
from flowgmm_cli.data.transforms.base import Transform

_CELLS = 4096
_MAX_STEPS = 8  # more take as long as a binary search


class Quantile(Transform):
    """Map each feature to a standard normal through its training quantiles.

    The map is linear between knots `(quantile of the feature, the same quantile of N(0, 1))` and beyond the
    outermost ones, so it is strictly increasing, invertible everywhere, and its log-det is exact (the sum of
    the log-slopes; at a knot, the slope to its right). A value that fills several quantiles gets one knot in
    the middle of their range. A constant feature is only shifted. There are at most as many quantiles as
    training rows.
    """

    inputs: Tensor
    outputs: Tensor

    config: QuantileConfig

    def __init__(self, config: QuantileConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        line = torch.arange(2, dtype=torch.float64).repeat(features, 1)
        self.register_buffer("inputs", line)
        self.register_buffer("outputs", line.clone())
        self._tables: dict[str, tuple[Tensor, int, GuideTable]] = {}

    def fit(self, x: Tensor) -> None:
        """Compute the quantiles of each feature."""
        count = max(2, min(self.config.n_quantiles, len(x)))
        # The outermost knots are half a row from the ends, where normal quantiles are finite.
        half = 0.5 / max(len(x), 2)
        probabilities = torch.linspace(half, 1 - half, count, dtype=torch.float64)
        ordered = x.sort(dim=0).values
        ranks = (probabilities * len(x) - 0.5).clamp(0, len(x) - 1)
        low, high = ranks.floor().long(), ranks.ceil().long()
        quantiles = torch.lerp(ordered[low], ordered[high], (ranks - low)[:, None].to(x.dtype))
        knots = [_add_tails(*_merge_ties(column, probabilities)) for column in quantiles.T]
        longest = max(len(inputs) for inputs, _ in knots)
        self.inputs = torch.stack([_extend(inputs, longest) for inputs, _ in knots])
        self.outputs = torch.stack([_extend(outputs, longest) for _, outputs in knots])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and the sum of the log-slopes."""
        z, derivatives = self._interpolate("inputs", "outputs", x)
        return z, derivatives.log().sum(dim=1)

    def inverse(self, z: Tensor) -> Tensor:
        """Return x."""
        return self._interpolate("outputs", "inputs", z)[0]

    def _interpolate(self, source: str, target: str, points: Tensor) -> tuple[Tensor, Tensor]:
        """Map `points` `(N, D)` linearly between the knots of two buffers; also return derivatives."""
        knots, values = self.get_buffer(source), self.get_buffer(target)
        points = points.T.contiguous()
        segment = self._segment(source, points.detach())
        derivatives = (values.diff() / knots.diff()).gather(1, segment)
        left, low = knots.gather(1, segment), values.gather(1, segment)
        return (low + (points - left) * derivatives).T, derivatives.T

    def _segment(self, source: str, points: Tensor) -> Tensor:
        knots = self.get_buffer(source)
        if not GuideTable.is_worthwhile(knots, points):
            return find_segments(knots, points)
        cached = self._tables.get(source)
        if cached is None or cached[0] is not knots or cached[1] != knots._version:
            cached = self._tables[source] = (knots, knots._version, GuideTable(knots))
        return cached[2](points)


def _merge_ties(quantiles: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Return strictly increasing knots of one feature: those that (nearly) coincide become one."""
    size = quantiles.abs().max()
    gap = torch.maximum(1e-9 * (quantiles[-1] - quantiles[0]), 1e-13 * size)
    group = torch.zeros(len(quantiles), dtype=torch.int64)
    last = quantiles[0]
    for index in range(1, len(quantiles)):
        distinct = bool(quantiles[index] - last > gap)
        group[index] = group[index - 1] + int(distinct)
        last = quantiles[index] if distinct else last
    members = group.bincount().to(torch.float64)
    centre = torch.zeros_like(members).index_add_(0, group, probabilities) / members
    first = torch.searchsorted(group, torch.arange(len(members)))
    return quantiles[first], torch.special.ndtri(centre)


def _add_tails(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Add a knot on either side, at a distance of the range, with at most the slope of the whole line."""
    if len(inputs) == 1:
        reach, low, high = inputs.abs().clamp_min(1.0)[0], torch.ones(()), torch.ones(())
    else:
        reach = inputs[-1] - inputs[0]
        ratios = outputs.diff() / inputs.diff()
        whole = (outputs[-1] - outputs[0]) / reach
        low, high = ratios[0].minimum(whole), ratios[-1].minimum(whole)
    return (
        torch.cat([inputs[:1] - reach, inputs, inputs[-1:] + reach]),
        torch.cat([outputs[:1] - reach * low, outputs, outputs[-1:] + reach * high]),
    )


def _extend(values: Tensor, length: int) -> Tensor:
    """Repeat the last step of a feature's knots up to a length, so that all features have equally many."""
    steps = torch.arange(1, length - len(values) + 1, dtype=values.dtype)
    return torch.cat([values, values[-1] + steps * (values[-1] - values[-2])])


class GuideTable:
    """Find the segments between knots by a guide table (Chen and Asau, 1974).

    A table of cells of equal width gives the first candidate, a few comparisons the segment. A binary search
    takes four times as long, since its branches cannot be predicted; it serves features whose knots are
    crowded into few cells, and small inputs.

    Args:
        knots: `(D, K)`, float64, strictly increasing along K, at least 3.
    """

    def __init__(self, knots: Tensor) -> None:
        self._knots = knots
        inner = knots[:, 1:-1]
        # no value, not even infinity, passes a NaN at the end
        self._inner = torch.cat([inner, inner.new_full((len(knots), 1), torch.nan)], 1)
        self._low = knots[:, 1:2]
        self._scale = _CELLS / (knots[:, -2:-1] - self._low).clamp_min(0)
        self._scale = torch.where(self._scale.isfinite(), self._scale, 0)
        # The cell is monotone in the value, even with rounding: knots of lower cells are below the value.
        own = self._cell(inner, slice(None)).contiguous()
        cells = torch.arange(_CELLS).expand(len(knots), -1).contiguous()
        self._start = torch.searchsorted(own, cells, out_int32=True)
        steps = (torch.searchsorted(own, cells, right=True) - self._start).amax(1)
        self._guided = (steps <= _MAX_STEPS).nonzero()[:, 0]
        self._others = (steps > _MAX_STEPS).nonzero()[:, 0]
        self._steps = int(steps[self._guided].max()) if len(self._guided) else 0

    @staticmethod
    def is_worthwhile(knots: Tensor, values: Tensor) -> bool:
        """Return True for many values `(D, N)` on a CPU outside of tracing.

        Building a table reads numbers, which would synchronise with a device.
        """
        if type(values) is not Tensor or values.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        return values.shape[1] >= _CELLS and knots.shape[1] > 2

    def __call__(self, values: Tensor) -> Tensor:
        """Return the segment, 0 to K - 2, of each value `(D, N)`; the outermost ones are unbounded."""
        if not len(self._others):
            return self._look_up(values, slice(None))
        segments = torch.empty(values.shape, dtype=torch.int64)
        others = self._others
        segments[others] = find_segments(self._knots[others], values[others])
        if len(self._guided):
            segments[self._guided] = self._look_up(values[self._guided], self._guided)
        return segments

    def _look_up(self, values: Tensor, features: Tensor | slice) -> Tensor:
        inner = self._inner[features]
        segment = self._start[features].gather(1, self._cell(values, features)).long()
        for _ in range(self._steps):
            segment += inner.gather(1, segment) <= values
        return segment

    def _cell(self, values: Tensor, features: Tensor | slice) -> Tensor:
        position = (values - self._low[features]).mul_(self._scale[features])
        return position.clamp_(0, _CELLS - 1).long().clamp_(0, _CELLS - 1)  # twice: NaN may be any integer


def find_segments(knots: Tensor, values: Tensor) -> Tensor:
    """Return the segment, 0 to K - 2, of each of the values `(D, N)` by binary search."""
    return torch.searchsorted(knots, values, right=True).sub_(1).clamp_(0, knots.shape[1] - 2)

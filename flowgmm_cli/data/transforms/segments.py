"""Which segment between knots a value lies in, for very many values."""

from __future__ import annotations

import torch
from torch import Tensor

_CELLS = 4096
_STEPS = 8  # more take as long as a binary search


class Segments:
    """Segments between knots, found by a guide table (Chen and Asau, 1974) where that is faster.

    A table of equally wide cells tells about where a value lies; a few comparisons tell exactly. A binary
    search, whose every step is a branch that nobody can foresee, takes four times as long; it is left for
    features whose knots crowd in few of the cells, and for few values.

    Args:
        knots: `(D, K)`, float64, strictly increasing along K, at least 3.
    """

    def __init__(self, knots: Tensor) -> None:
        self._knots = knots
        inner = knots[:, 1:-1]
        # a NaN at the end is passed by no value, not even by infinity
        self._inner = torch.cat([inner, inner.new_full((len(knots), 1), torch.nan)], 1)
        self._low = knots[:, 1:2]
        self._scale = _CELLS / (knots[:, -2:-1] - self._low).clamp_min(0)
        self._scale = torch.where(self._scale.isfinite(), self._scale, 0)
        # Cells do not decrease with values, rounded or not: knots of lower cells lie below a value for sure.
        own = self._cell(inner, slice(None)).contiguous()
        cells = torch.arange(_CELLS).expand(len(knots), -1).contiguous()
        self._start = torch.searchsorted(own, cells, out_int32=True)
        steps = (torch.searchsorted(own, cells, right=True) - self._start).amax(1)
        self._guided = (steps <= _STEPS).nonzero()[:, 0]
        self._others = (steps > _STEPS).nonzero()[:, 0]
        self._steps = int(steps[self._guided].max()) if len(self._guided) else 0

    @staticmethod
    def worth(knots: Tensor, values: Tensor) -> bool:
        """Whether a table pays for itself for values `(D, N)`: many of them, on a CPU, and nobody traces.

        Building one looks at numbers, for which a device would have to be waited for.
        """
        if type(values) is not Tensor or values.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        return values.shape[1] >= _CELLS and knots.shape[1] > 2

    def __call__(self, values: Tensor) -> Tensor:
        """Return 0 to K - 2 for each of the values `(D, N)`: the outermost segments go on without end."""
        if not len(self._others):
            return self._by_table(values, slice(None))
        found = torch.empty(values.shape, dtype=torch.int64)
        others = self._others
        found[others] = search(self._knots[others], values[others])
        if len(self._guided):
            found[self._guided] = self._by_table(values[self._guided], self._guided)
        return found

    def _by_table(self, values: Tensor, features: Tensor | slice) -> Tensor:
        inner = self._inner[features]
        segment = self._start[features].gather(1, self._cell(values, features)).long()
        for _ in range(self._steps):
            segment = segment + (inner.gather(1, segment) <= values)
        return segment

    def _cell(self, values: Tensor, features: Tensor | slice) -> Tensor:
        place = (values - self._low[features]) * self._scale[features]
        return place.clamp(0, _CELLS - 1).long().clamp(0, _CELLS - 1)  # NaN is no whole number


def search(knots: Tensor, values: Tensor) -> Tensor:
    """The same by binary search."""
    return torch.searchsorted(knots, values, right=True).sub_(1).clamp_(0, knots.shape[1] - 2)

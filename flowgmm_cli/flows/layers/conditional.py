"""Maps of each number by itself whose parameters a network reads off another tensor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowgmm_cli.flows.layers.spline import parameters_of, rational_quadratic

MakeNet = Callable[[int, int], nn.Module]
"""A network of so many channels in and out, at first zero."""


class ConditionalMap(nn.Module, ABC):
    """An invertible map of images `(batch, changed, height, width)`, given others of the same size."""

    @abstractmethod
    def forward(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x`; also the logarithm of the slope of each number, of the same shape."""

    @abstractmethod
    def inverse(self, z: Tensor, given: Tensor) -> Tensor:
        """Undo `forward`."""


class ConditionalAffine(ConditionalMap):
    r""":math:`z = x \, e^{s} + t` with :math:`(s, t) = \mathrm{net}(given)` and s soft-clipped at a limit l.

    :math:`s = l \tanh(\hat s / l)`, as in `AffineCoupling`.

    Args:
        given: channels that the network sees.
        changed: channels that are mapped.
        net: makes the network.
        scale_limit: l.
    """

    def __init__(self, given: int, changed: int, *, net: MakeNet, scale_limit: float) -> None:
        super().__init__()
        self.scale_limit = scale_limit
        self.net = net(given, 2 * changed)

    def forward(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x`; also the logarithm of the slope of each number, of the same shape."""
        scale, shift = self._scale_and_shift(given)
        return x * scale.exp() + shift, scale

    def inverse(self, z: Tensor, given: Tensor) -> Tensor:
        """Undo `forward`."""
        scale, shift = self._scale_and_shift(given)
        return (z - shift) * torch.exp(-scale)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"scale_limit={self.scale_limit:g}"

    def _scale_and_shift(self, given: Tensor) -> tuple[Tensor, Tensor]:
        raw, shift = self.net(given).chunk(2, dim=1)
        return self.scale_limit * torch.tanh(raw / self.scale_limit), shift


class ConditionalSpline(ConditionalMap):
    """A rational-quadratic spline of each number, after a conditional scale and shift.

    The affine part moves what lies beyond the spline's interval, where it is the identity; with it the layer
    can do whatever an affine coupling can.

    Args:
        given, changed, net, scale_limit: see `ConditionalAffine`.
        bins: of each spline.
        bound: B; the spline acts on [-B, B].
    """

    def __init__(
        self,
        given: int,
        changed: int,
        *,
        net: MakeNet,
        scale_limit: float,
        bins: int = 8,
        bound: float = 4.0,
    ) -> None:
        super().__init__()
        self.bins = bins
        self.bound = bound
        self.scale_limit = scale_limit
        self.changed = changed
        self.net = net(given, changed * (2 + parameters_of(bins)))

    def forward(self, x: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x`; also the logarithm of the slope of each number, of the same shape."""
        scale, shift, raw = self._curve(given)
        z, log_slope = rational_quadratic(x * scale.exp() + shift, raw, bound=self.bound)
        return z, scale + log_slope

    def inverse(self, z: Tensor, given: Tensor) -> Tensor:
        """Undo `forward`."""
        scale, shift, raw = self._curve(given)
        x, _ = rational_quadratic(z, raw, bound=self.bound, inverse=True)
        return (x - shift) * torch.exp(-scale)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"bins={self.bins}, bound={self.bound:g}, scale_limit={self.scale_limit:g}"

    def _curve(self, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        out = self.net(given)
        scale, shift = out[:, : 2 * self.changed].chunk(2, dim=1)
        raw = out[:, 2 * self.changed :]
        raw = raw.reshape(len(raw), self.changed, parameters_of(self.bins), *raw.shape[2:])
        return self.scale_limit * torch.tanh(scale / self.scale_limit), shift, raw.movedim(2, -1)

"""Elementwise maps whose parameters are the output of a network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowgmm_cli.flows.layers.spline import count_parameters, rational_quadratic

NetworkFactory = Callable[[int, int], nn.Module]
"""Builds a network from the numbers of channels in and out; it starts as the constant zero."""


def log_scale_and_shift(raw: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    r"""Soft-clipped log-scale :math:`s = l \tanh(\hat s / l)` and shift t, `(batch, C, ...)` each.

    `raw` has :math:`\hat s` and t side by side, `(batch, 2 C, ...)`; `limit` is l.
    """
    unbounded, shift = raw.chunk(2, dim=1)
    # tanh from the sigmoid, whose kernel is several times as fast on a CPU and as exact
    return (torch.sigmoid(unbounded * (2 / limit)) - 0.5) * (2 * limit), shift


class ConditionalAffine(nn.Module):
    r"""Scale and shift of each number of an image by a network, given other channels of the same image.

    .. math:: z = x \, e^{s} + t, \quad (s, t) = \mathrm{net}(\mathrm{context})

    The log-scale is soft-clipped as in `AffineCoupling`. At first the map is the identity.

    Args:
        context: channels of the context.
        channels: channels that are mapped.
        net: builds the network.
        scale_limit: bound on the absolute log-scale.
        parameters: outputs of the network for each channel.
    """

    def __init__(
        self, context: int, channels: int, *, net: NetworkFactory, scale_limit: float, parameters: int = 2
    ) -> None:
        super().__init__()
        self.channels = channels
        self.scale_limit = scale_limit
        self.net = net(context, parameters * channels)

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x` `(batch, C, height, width)`; returns z and the log-slope of each number."""
        log_scale, shift = log_scale_and_shift(self.net(context), self.scale_limit)
        return torch.addcmul(shift, x, log_scale.exp()), log_scale

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        """Invert `forward`."""
        log_scale, shift = log_scale_and_shift(self.net(context), self.scale_limit)
        return (z - shift) * torch.exp(-log_scale)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"scale_limit={self.scale_limit:g}"


class ConditionalSpline(ConditionalAffine):
    """Rational-quadratic spline after a scale and shift, all by the output of a network.

    The spline is the identity beyond its interval; the scale and shift act there too. So the layer is at
    least as general as `ConditionalAffine`. At first it is the identity.

    Args:
        context, channels, net, scale_limit: see `ConditionalAffine`.
        bins: of each spline.
        bound: B; the spline acts on [-B, B].
    """

    def __init__(
        self,
        context: int,
        channels: int,
        *,
        net: NetworkFactory,
        scale_limit: float,
        bins: int = 8,
        bound: float = 4.0,
    ) -> None:
        count = 2 + count_parameters(bins)
        super().__init__(context, channels, net=net, scale_limit=scale_limit, parameters=count)
        self.bins = bins
        self.bound = bound

    def forward(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Map `x`; returns z and the log-slope of each number."""
        log_scale, shift, raw = self._spline(context)
        z, log_slope = rational_quadratic(torch.addcmul(shift, x, log_scale.exp()), raw, bound=self.bound)
        return z, log_scale + log_slope

    def inverse(self, z: Tensor, context: Tensor) -> Tensor:
        """Invert `forward`."""
        log_scale, shift, raw = self._spline(context)
        x, _ = rational_quadratic(z, raw, bound=self.bound, inverse=True)
        return (x - shift) * torch.exp(-log_scale)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"bins={self.bins}, bound={self.bound:g}, {super().extra_repr()}"

    def _spline(self, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-scale, shift and raw parameters of the splines."""
        affine, raw = self.net(context).tensor_split([2 * self.channels], dim=1)
        log_scale, shift = log_scale_and_shift(affine, self.scale_limit)
        raw = raw.unflatten(1, (self.channels, count_parameters(self.bins)))
        return log_scale, shift, raw.movedim(2, -1)


ConditionalFactory = Callable[[int, int], ConditionalAffine]
"""Builds a conditional map from the numbers of channels of the context and of `x`."""

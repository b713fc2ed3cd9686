"""Variational dequantisation (Ho, Chen, Srinivas, Duan and Abbeel, 2019)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowgmm_cli.bijection import Bijection
from flowgmm_cli.flows.layers.conditional import ConditionalAffine, NetworkFactory
from flowgmm_cli.flows.layers.pixels import Squeeze


class VariationalDequantisation(Bijection):
    r"""Learned noise of dequantised pixels, as a bijection inside the cell of each pixel.

    A pixel x = (v + u) / L is moved inside its cell [v / L, (v + 1) / L), depending on the image v:

    .. math:: x \mapsto (v + g_v(u)) / L, \quad \log|\det| = \log|\det \partial g_v / \partial u|

    where :math:`g_v = \mathrm{sigmoid} \circ \mathrm{couplings} \circ \mathrm{logit}` is a flow of the unit
    cube whose networks get v.

    This is variational dequantisation: Ho et al. bound the probability of the image by

    .. math:: \log P(v) \ge \mathbb{E}_{u' \sim q(\cdot \mid v)} [\log p(v + u') - \log q(u' \mid v)]

    (eq. 11, with p the density in units of pixels). For u uniform and :math:`u' = g_v(u)` the noise has the
    density :math:`q(u' \mid v) = 1 / |\det \partial g_v / \partial u|`, so the term in brackets is the
    log-density of a flow that starts with this layer, at v + u. To maximise the likelihood of uniformly
    dequantised pixels under the whole flow is to maximise the bound over p and q. The gain is large where
    pixels are black: a uniform density of width 1 / L costs an affine flow with Gaussian latents a quarter of
    a bit for each such pixel.

    Each cell is mapped to itself, except for a margin that keeps float32 from rounding into the next cell.
    Numbers outside of [0, 1) are not changed.

    Args:
        channels: of the images; height and width are even.
        couplings: number of affine couplings, after a first scale and shift that depend on v alone.
        net: builds the networks.
        levels: L.
        scale_limit: bound on the absolute log-scale of one step.
    """

    def __init__(
        self,
        channels: int,
        *,
        couplings: int,
        net: NetworkFactory,
        levels: int = 256,
        scale_limit: float = 2.0,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.squeeze = Squeeze()
        self.start = ConditionalAffine(4 * channels, 4 * channels, net=net, scale_limit=scale_limit)
        self.steps: Any = nn.ModuleList(
            ConditionalAffine(6 * channels, 2 * channels, net=net, scale_limit=scale_limit)
            for _ in range(couplings)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, height, width)` to the same shape, with the log-determinant."""
        level, u, inside, context = self._split_pixels(x)
        margin = self._margin(x)
        z = torch.logit(margin + (1 - 2 * margin) * u)
        mapped, log_slope = self.start(z, context)
        log_slope = log_slope - _log_sigmoid_slope(z)
        z = torch.where(inside, mapped, z)
        for step, flip in self._steps():
            fixed, free = _split_colours(z, flip=flip)
            mapped, step_log_slope = step(free, torch.cat([fixed, context], dim=1))
            _, free_inside = _split_colours(inside, flip=flip)
            z = _join_colours(fixed, torch.where(free_inside, mapped, free), flip=flip)
            log_slope = log_slope + _join_colours(torch.zeros_like(fixed), step_log_slope, flip=flip)
        log_slope = log_slope + _log_sigmoid_slope(z) + 2 * math.log1p(-2 * margin)
        image = self._join_pixels(level, margin + (1 - 2 * margin) * torch.sigmoid(z), inside, x)
        return image, log_slope.masked_fill(~inside, 0).flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        level, u, inside, context = self._split_pixels(z)
        margin = self._margin(z)
        eps = torch.finfo(z.dtype).eps
        y = torch.logit(((u - margin) / (1 - 2 * margin)).clamp(eps, 1 - eps))
        for step, flip in reversed(self._steps()):
            fixed, free = _split_colours(y, flip=flip)
            mapped = step.inverse(free, torch.cat([fixed, context], dim=1))
            _, free_inside = _split_colours(inside, flip=flip)
            y = _join_colours(fixed, torch.where(free_inside, mapped, free), flip=flip)
        y = torch.where(inside, self.start.inverse(y, context), y)
        # Rounding must not reach the ends of the cell, where `floor` may give another cell.
        u = ((torch.sigmoid(y) - margin) / (1 - 2 * margin)).clamp(margin / 4, 1 - margin / 4)
        return self._join_pixels(level, u, inside, z)

    def _split_pixels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Squeezed v and u, a mask of x in [0, 1), and v as the networks get it. Outside, u is 1/2."""
        scaled, _ = self.squeeze(x * self.levels)
        inside = (scaled >= 0) & (scaled < self.levels)
        level = scaled.floor().clamp(0, self.levels - 1)
        return level, torch.where(inside, scaled - level, 0.5), inside, level * (2 / (self.levels - 1)) - 1

    def _join_pixels(self, level: Tensor, u: Tensor, inside: Tensor, x: Tensor) -> Tensor:
        """The image of v and u; `x` where that is outside of [0, 1)."""
        return torch.where(self.squeeze.inverse(inside), self.squeeze.inverse((level + u) / self.levels), x)

    def _margin(self, x: Tensor) -> float:
        """Margin at both ends of a cell, as a share of its width."""
        return 4 * self.levels * torch.finfo(x.dtype).eps

    def _steps(self) -> list[tuple[ConditionalAffine, bool]]:
        """The couplings, and whether each maps the first colour."""
        return [(step, bool(index % 2)) for index, step in enumerate(self.steps)]


def _log_sigmoid_slope(z: Tensor) -> Tensor:
    return logsigmoid(z) + logsigmoid(-z)


def _split_colours(x: Tensor, *, flip: bool) -> tuple[Tensor, Tensor]:
    """The fixed and the free colour of a squeezed checkerboard."""
    first, second = x.chunk(2, dim=1)
    return (second, first) if flip else (first, second)


def _join_colours(fixed: Tensor, free: Tensor, *, flip: bool) -> Tensor:
    return torch.cat([free, fixed] if flip else [fixed, free], dim=1)

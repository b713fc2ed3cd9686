"""Dequantisation noise that is learned (Ho, Chen, Srinivas, Duan and Abbeel, 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowgmm_cli.bijection import Bijection
from flowgmm_cli.flows.layers.conditional import ConditionalAffine, MakeNet
from flowgmm_cli.flows.layers.squeeze import Squeeze


class VariationalDequantisation(Bijection):
    r"""Moves each pixel x = (v + u) / L inside its own cell [v / L, (v + 1) / L), depending on the image v.

    .. math:: x \mapsto (v + g_v(u)) / L, \quad \log|\det| = \log|\det \partial g_v / \partial u|

    where :math:`g_v = \mathrm{sigmoid} \circ \mathrm{couplings} \circ \mathrm{logit}` is a flow of the unit
    cube whose networks see v.

    Why this is variational dequantisation: Ho et al. bound the probability of the image by

    .. math:: \log P(v) \ge \mathbb{E}_{u' \sim q(\cdot \mid v)} [\log p(v + u') - \log q(u' \mid v)]

    (eq. 11, with p the density in units of pixels). For u uniform and :math:`u' = g_v(u)` the noise has the
    density :math:`q(u' \mid v) = 1 / |\det \partial g_v / \partial u|`, so the term in brackets is the
    ordinary log-density of the flow that starts with this layer, taken at v + u. Whoever maximises the
    likelihood of uniformly dequantised pixels under the whole flow maximises the bound over p and q at once;
    no other code has to know. The gain is large where pixels are black: a uniform density of width 1 / L
    costs an affine flow, whose latents are Gaussian, a quarter of a bit for each such pixel.

    The map is a bijection: each cell goes to itself, but for a margin that keeps float32 from rounding into
    the next one. What lies outside of [0, 1) stays where it is.

    Args:
        channels: of the images; height and width are even if there are couplings.
        couplings: affine couplings after a first scale and shift that depend on v alone.
        net: makes the networks.
        levels: L.
        scale_limit: bound on the absolute log-scale of one step.
    """

    def __init__(
        self,
        channels: int,
        *,
        couplings: int,
        net: MakeNet,
        levels: int = 256,
        scale_limit: float = 2.0,
    ) -> None:
        super().__init__()
        self.levels = levels
        self.squeeze = Squeeze()
        self.start = ConditionalAffine(4 * channels, 4 * channels, net=net, scale_limit=scale_limit)
        self.steps = nn.ModuleList(
            ConditionalAffine(6 * channels, 2 * channels, net=net, scale_limit=scale_limit)
            for _ in range(couplings)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, channels, height, width)` to the same shape, with the log-determinant."""
        whole, u, inside, image = self._cells(x)
        margin = self._margin(x)
        z = torch.logit(margin + (1 - 2 * margin) * u)
        moved, log_slope = self.start(z, image)
        log_slope = log_slope - _log_sigmoid_slope(z)
        z = torch.where(inside, moved, z)
        for index, step in enumerate(self._typed()):
            kept, changed = _colours(z, flip=bool(index % 2))
            moved, part = step(changed, torch.cat([kept, image], dim=1))
            _, free = _colours(inside, flip=bool(index % 2))
            z = _joined(kept, torch.where(free, moved, changed), flip=bool(index % 2))
            log_slope = log_slope + _joined(torch.zeros_like(kept), part, flip=bool(index % 2))
        log_slope = log_slope + _log_sigmoid_slope(z) + 2 * math.log1p(-2 * margin)
        moved = self._image(whole, margin + (1 - 2 * margin) * torch.sigmoid(z), inside, x)
        return moved, log_slope.masked_fill(~inside, 0).flatten(1).sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        whole, u, inside, image = self._cells(z)
        margin = self._margin(z)
        edge = torch.finfo(z.dtype).eps
        y = torch.logit(((u - margin) / (1 - 2 * margin)).clamp(edge, 1 - edge))
        for index, step in reversed(list(enumerate(self._typed()))):
            kept, changed = _colours(y, flip=bool(index % 2))
            moved = step.inverse(changed, torch.cat([kept, image], dim=1))
            _, free = _colours(inside, flip=bool(index % 2))
            y = _joined(kept, torch.where(free, moved, changed), flip=bool(index % 2))
        y = torch.where(inside, self.start.inverse(y, image), y)
        # rounding must not reach the ends of the cell, from where `floor` may find another one
        back = ((torch.sigmoid(y) - margin) / (1 - 2 * margin)).clamp(margin / 4, 1 - margin / 4)
        return self._image(whole, back, inside, z)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"levels={self.levels}, couplings={len(self.steps)}"

    def _cells(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Squeezed: v, u, where x is in [0, 1), and v as the networks see it. Elsewhere u is 1/2."""
        scaled, _ = self.squeeze(x * self.levels)
        inside = (scaled >= 0) & (scaled < self.levels)
        whole = scaled.floor().clamp(0, self.levels - 1)
        return whole, torch.where(inside, scaled - whole, 0.5), inside, whole * (2 / (self.levels - 1)) - 1

    def _image(self, whole: Tensor, u: Tensor, inside: Tensor, x: Tensor) -> Tensor:
        """The image of v and u; `x` where that is outside of [0, 1)."""
        moved, free = self.squeeze.inverse((whole + u) / self.levels), self.squeeze.inverse(inside)
        return torch.where(free, moved, x)

    def _margin(self, x: Tensor) -> float:
        """What is left free at both ends of a cell, as a share of it."""
        return 4 * self.levels * torch.finfo(x.dtype).eps

    def _typed(self) -> list[ConditionalAffine]:
        return [step for step in self.steps if isinstance(step, ConditionalAffine)]


def _log_sigmoid_slope(z: Tensor) -> Tensor:
    return logsigmoid(z) + logsigmoid(-z)


def _colours(x: Tensor, *, flip: bool) -> tuple[Tensor, Tensor]:
    """The colour of a squeezed checkerboard that is kept and the one that is changed."""
    first, second = x.chunk(2, dim=1)
    return (second, first) if flip else (first, second)


def _joined(kept: Tensor, changed: Tensor, *, flip: bool) -> Tensor:
    return torch.cat([changed, kept] if flip else [kept, changed], dim=1)

"""A plain port of the paper's program for tables and text, written to compare the speed.

(Izmailov et al., 2020; github.com/izmailovpavel/flowgmm, `flow_ssl/realnvp` and `flow_ssl/distributions`.)
Couplings multiply the whole vector by a mask, so half of the outputs of their networks are discarded. Every
Gaussian is a `MultivariateNormal` with a dense covariance, created in each call and used in a loop over the
classes. Labelled rows and unlabelled rows have a pass each. The port has no dropout.
"""

from __future__ import annotations

import torch
from shapes import UNLABELLED_WEIGHT, Rows, Shape
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.nn import functional as F

_MAX_NUMBERS = 2**25  # in all covariances together


def fits(shape: Shape) -> bool:
    """Return True if the dense covariances are small enough to be measured."""
    return shape.classes * shape.features**2 <= _MAX_NUMBERS


class MaskedCoupling(nn.Module):
    """Shift, then scale, the entries where the mask is 0, given the others."""

    def __init__(self, mask: Tensor, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        features = len(mask)
        self.net = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * features),
        )
        self.rescale = nn.utils.parametrizations.weight_norm(_Rescale(features))

    def scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.net(x * self.mask).chunk(2, dim=1)
        free = 1 - self.mask
        return self.rescale(torch.tanh(scale)) * free, shift * free

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.scale_and_shift(x)
        factor = scale.exp()
        if torch.isnan(factor).any():
            raise RuntimeError("the scale is not a number")
        return (x + shift) * factor, scale.sum(1)

    def inverse(self, z: Tensor) -> Tensor:
        scale, shift = self.scale_and_shift(z)
        return z * scale.mul(-1).exp() - shift


class _Rescale(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:, 0] * x


class Reference(nn.Module):
    """Masked couplings and dense Gaussians, with the methods of `peers.Peer`."""

    def __init__(self, shape: Shape, rows: Rows) -> None:
        super().__init__()
        mask = (torch.arange(shape.features) < shape.features // 2).float()
        self.couplings = nn.ModuleList(
            MaskedCoupling(1 - mask if index % 2 else mask, shape.hidden) for index in range(shape.couplings)
        )
        self.means = nn.Parameter(rows.means.clone())
        self.weights = torch.ones(shape.classes)
        self.raw_scales = torch.full((shape.classes,), 1.0).expm1().log()

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, log_det = coupling(x)
            total = total + log_det
        return x, total

    def gaussians(self) -> list[MultivariateNormal]:
        unit = torch.eye(self.means.shape[1])
        return [
            MultivariateNormal(mean, F.softplus(scale) ** 2 * unit)
            for mean, scale in zip(self.means, self.raw_scales, strict=True)
        ]

    def densities(self, z: Tensor) -> Tensor:
        return torch.cat([gaussian.log_prob(z)[:, None] for gaussian in self.gaussians()], dim=1)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        z, log_det = self.encode(x)
        log_densities = self.densities(z)
        mixture = torch.logsumexp(log_densities + torch.log(F.softmax(self.weights, dim=0)), dim=1)
        if y is None:
            return mixture + log_det
        log_prob = torch.zeros_like(mixture)
        for index in range(log_densities.shape[1]):
            mask = y == index
            log_prob[mask] += log_densities[:, index][mask]
        return log_prob + log_det

    def loss(self, rows: Rows) -> Tensor:
        labelled = self.log_prob(rows.labelled, rows.labels).mean()
        return -(labelled + UNLABELLED_WEIGHT * self.log_prob(rows.unlabelled).mean())

    def score(self, x: Tensor) -> Tensor:
        return self.log_prob(x)

    def sample(self, n: int) -> Tensor:
        component = torch.randint(len(self.means), (n,))
        samples = torch.stack([gaussian.sample((n,)) for gaussian in self.gaussians()])
        z = samples[component, torch.arange(n)]
        for coupling in reversed(self.couplings):
            z = coupling.inverse(z)  # type: ignore[operator]
        return z

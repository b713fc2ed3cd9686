"""The latent dimensions that carry no class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FLOOR = 1e-3  # what no learned standard deviation goes below


class Rest(nn.Module):
    r"""A standard normal, or :math:`N(m, \mathrm{diag}(s^2))` with m and s learned from 0 and 1.

    It is the same for all classes, so it counts for the density and not for the posterior.

    Args:
        features: number of dimensions, R.
        learn: learn a mean and a standard deviation of each.
    """

    def __init__(self, features: int, *, learn: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features = features
        self.learned = learn
        if learn:
            self.mean = nn.Parameter(torch.zeros(features, dtype=dtype))
            self.raw_scale = nn.Parameter(torch.full((features,), math.log(1 - FLOOR), dtype=dtype))

    def log_prob(self, z: Tensor) -> Tensor:
        """`(N, R)` to `(N,)`, in the dtype of z."""
        constant = 0.5 * self.features * math.log(2 * math.pi)
        if not self.learned:
            return -0.5 * z.square().sum(1) - constant
        mean, scale = (one.to(z.dtype) for one in self.moments())
        whitened = (z - mean) / scale
        return -0.5 * whitened.square().sum(1) - scale.log().sum() - constant

    def draw(self, noise: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Turn standard normal numbers `(N, R)` into latents; `temperature` shrinks the deviations."""
        if not self.learned:
            return temperature * noise
        mean, scale = self.moments()
        return mean + temperature * scale * noise

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, two `(R,)`; on the CPU where nothing is learned."""
        if not self.learned:
            return torch.zeros(self.features), torch.ones(self.features)
        return self.mean, FLOOR + self.raw_scale.exp()

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}" + (", learned" if self.learned else "")

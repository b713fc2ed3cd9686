"""Distribution of the nuisance dimensions: the latent dimensions that carry no class."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MIN_SCALE = 1e-3  # of learned standard deviations


class Background(nn.Module):
    r"""Standard normal, or :math:`N(m, \mathrm{diag}(s^2))` with m and s learned from 0 and 1.

    It is the same for all classes, so it contributes to the density but not to the posterior.

    Args:
        features: number of dimensions, R.
        learn: learn a mean and a standard deviation of each.

    Examples:
        >>> import torch
        >>> Background(2).log_prob(torch.zeros(3, 2))
        tensor([-1.8379, -1.8379, -1.8379])
    """

    def __init__(self, features: int, *, learn: bool = False, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features = features
        self.learned = learn
        if learn:
            self.mean = nn.Parameter(torch.zeros(features, dtype=dtype))
            self.raw_scale = nn.Parameter(torch.full((features,), math.log(1 - MIN_SCALE), dtype=dtype))

    def log_prob(self, z: Tensor) -> Tensor:
        """Log-densities of `(N, R)`, `(N,)`, in the dtype of z."""
        constant = 0.5 * self.features * math.log(2 * math.pi)
        if not self.learned:
            return -0.5 * z.square().sum(1) - constant
        mean, scale = (moment.to(z.dtype) for moment in self.moments())
        return -0.5 * ((z - mean) / scale).square().sum(1) - scale.log().sum() - constant

    def transform_noise(self, noise: Tensor, *, temperature: float = 1.0) -> Tensor:
        """Map standard normal noise `(N, R)` to latents; `temperature` scales the standard deviations."""
        if not self.learned:
            return temperature * noise
        mean, scale = self.moments()
        return mean + temperature * scale * noise

    def moments(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations, two `(R,)`; on the CPU if nothing is learned."""
        if not self.learned:
            return torch.zeros(self.features), torch.ones(self.features)
        return self.mean, MIN_SCALE + self.raw_scale.exp()

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"features={self.features}" + (", learned" if self.learned else "")

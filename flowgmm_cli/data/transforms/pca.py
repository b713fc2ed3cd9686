"""Transform `pca`."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.data.specs import PcaConfig
from flowgmm_cli.data.transforms.base import Transform, column_std


class Pca(Transform):
    r"""Rotation to principal components, divided by one number: :math:`z = W (x - m) / s`.

    The rows of W are orthonormal eigenvectors of the training covariance, by falling variance, each with its
    largest entry positive; s makes the mean variance of the kept components 1. Unlike whitening this leaves
    their relative sizes, and so the geometry of embeddings, as they are.

    With fewer components than features the others are dropped: the density is that of the projection, and the
    inverse puts the training mean in their place. A number of components is at most the rank of the training
    rows.
    """

    mixes = True

    mean: Tensor
    components: Tensor
    scale: Tensor

    config: PcaConfig

    def __init__(self, config: PcaConfig, *, features: int) -> None:
        super().__init__(config, features=features)
        dim = min(config.dim, features) if isinstance(config.dim, int) else features
        self.register_buffer("mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("components", torch.eye(dim, features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    @property
    def out_features(self) -> int:
        """Number of kept components."""
        return self.components.shape[0]

    @property
    def inexact(self) -> str:
        """Reason: dropped components cannot be restored."""
        if self.out_features == self.in_features:
            return ""
        kept = f"{self.out_features} of {self.in_features} components"
        return f"pca keeps {kept}; the density is that of the kept ones"

    def fit(self, x: Tensor) -> None:
        """Diagonalise the covariance."""
        self.mean = x.mean(dim=0)
        # Columns that vary by rounding alone would rotate the basis at random.
        centred = torch.where(column_std(x) > 0, x - self.mean, torch.zeros_like(x))
        variances, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
        variances, components = variances.flip(0).clamp_min(0), vectors.T.flip(0)
        largest = components.abs().argmax(dim=1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        kept = self._count(variances)
        if isinstance(self.config.dim, int):  # few rows span fewer dimensions than requested
            rounding = variances[0] * len(variances) * torch.finfo(x.dtype).eps
            kept = min(kept, max(1, int((variances > rounding).sum())))
        variance = variances[:kept].mean()
        self.components = components[:kept].contiguous()
        self.scale = torch.where(variance > 0, variance.sqrt(), torch.ones_like(variance))

    def _count(self, variances: Tensor) -> int:
        if self.config.dim is None:
            return self.in_features
        if isinstance(self.config.dim, int):
            return min(self.config.dim, self.in_features)
        explained = variances.cumsum(0)
        return int((explained < self.config.dim * explained[-1]).sum()) + 1 if explained[-1] > 0 else 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Return z and :math:`-\dim(z) \log s`, the log-volume of the map on the kept components."""
        z = (x - self.mean) @ self.components.T / self.scale
        return z, (-self.out_features * self.scale.log()).expand(x.shape[0])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x, with the training mean along the dropped components."""
        return (z * self.scale) @ self.components + self.mean

"""A fixed linear layer under which the rows of each class have about the same spread in all directions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.bijection import Bijection, zero_log_det

_SMALLEST = 1e-4  # variance of a direction within the classes, of a feature's variance


class DiscriminantWhitening(Bijection):
    r"""Whitening by the covariance within the classes: :math:`z = W (x - m)`, initially the identity.

    .. math:: W = S^{-1/2} D^{-1}, \quad \log|\det W| = -\tfrac12 \log|S| - \textstyle\sum_i \log d_i

    with the standard deviations d of the features and S the pooled covariance, in units of d, of labelled
    rows about the means of their classes, shrunk as by Ledoit and Wolf (2004). Isotropic
    Gaussians behind it are linear discriminant analysis. W is fitted once and not trained.

    Args:
        features: length of the vector.
    """

    mean: Tensor
    matrix: Tensor
    inverse_matrix: Tensor
    log_det: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("matrix", torch.eye(features))
        self.register_buffer("inverse_matrix", torch.eye(features))
        self.register_buffer("log_det", torch.zeros(()))

    @torch.no_grad()
    def fit(self, x: Tensor, labelled: Tensor, labels: Tensor) -> None:
        """Compute W from rows `x` `(N, features)` and the `labelled` rows `(L, features)` of the `labels`.

        Without two rows of a class nothing happens.
        """
        from sklearn.covariance import ledoit_wolf

        rows = torch.cat([x, labelled]).cpu().double()
        mean, std = rows.mean(0), rows.std(0, correction=0)
        std = torch.where(std > 1e-6, std, torch.ones_like(std))
        classes, positions = np.unique(labels.cpu().numpy(), return_inverse=True)
        index = torch.from_numpy(positions)
        spare = len(labels) - len(classes)  # rows beyond those that the means use up
        if spare < 1:
            return
        units = (labelled.cpu().double() - mean) / std
        counts = torch.bincount(index)[:, None]
        centres = torch.zeros(len(classes), self.features).double().index_add_(0, index, units) / counts
        covariance, _ = ledoit_wolf((units - centres[index]).numpy(), assume_centered=True)
        covariance = torch.from_numpy(covariance) * len(labels) / spare
        variances, vectors = torch.linalg.eigh(covariance)
        deviations = variances.clamp(min=_SMALLEST).sqrt()
        self.mean.copy_(mean)
        self.matrix.copy_((vectors / deviations) @ vectors.T / std)
        self.inverse_matrix.copy_(std[:, None] * (vectors * deviations) @ vectors.T)
        self.log_det.copy_(-deviations.log().sum() - std.log().sum())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(batch, features)` to the same shape; the log-determinant is the same for every row."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            z = (x.to(dtype) - self.mean.to(dtype)) @ self.matrix.to(dtype).T
        return z, zero_log_det(x) + self.log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        dtype = torch.promote_types(z.dtype, torch.float32)
        with torch.autocast(z.device.type, enabled=False):
            return z.to(dtype) @ self.inverse_matrix.to(dtype).T + self.mean.to(dtype)

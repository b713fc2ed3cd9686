r"""Repulsion of class means.

.. math:: \frac{2}{K (K - 1)} \textstyle\sum_{i < j} \max(0,\ d - \|\mu_i - \mu_j\| / \sigma)^2

with :math:`\sigma` the mean standard deviation of the components.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.specs import MeanSeparationConfig


class MeanSeparation:
    """Squared hinge on the distances between the means of the mixture."""

    reads: frozenset[str] = frozenset()

    def __init__(self, config: MeanSeparationConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"mean_separation": scalar}`; 0 with a single class."""
        # The unit takes no gradient, or components would shrink to seem further apart.
        distances = torch.pdist(model.mixture.means.float()) / model.mixture.scales.detach().mean()
        short = torch.relu(self.config.distance - distances)
        return {"mean_separation": short.square().sum() / max(1, len(short))}

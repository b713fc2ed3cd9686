r"""Repulsion of class means.

.. math:: \frac{2}{K (K - 1)} \textstyle\sum_{i < j} \max(0,\ d - \|\mu_i - \mu_j\| / \sigma)^2

with :math:`\sigma` the mean standard deviation of the components; of several components per class, the pairs
within a class do not count.
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
        mixture = model.mixture
        distances = torch.pdist(mixture.means.float()) / mixture.scales.detach().mean()
        if mixture.components > 1:  # those of one class may be as near to each other as they like
            first, second = torch.triu_indices(len(mixture.means), len(mixture.means), 1)
            classes = mixture.component_classes
            distances = distances[classes[first] != classes[second]]
        short = torch.relu(self.config.distance - distances)
        return {"mean_separation": short.square().sum() / max(1, len(short))}

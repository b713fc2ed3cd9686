"""Penalties on uncertain posteriors, close class means and extreme changes of volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.base import RampRegulariser, mean_of_sum
from flowgmm_cli.regularisers.specs import EntropyConfig, LogDetPenaltyConfig, MeanSeparationConfig


class Entropy(RampRegulariser[EntropyConfig]):
    r"""Mean entropy of the student's tempered posterior of the strong view, in nats.

    .. math:: -\textstyle\sum_k p(k \mid x) \log p(k \mid x)

    (Grandvalet and Bengio, 2004.)
    """

    name = "entropy"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean entropy."""
        log_p = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        return mean_of_sum(-(log_p.exp() * log_p).sum(), len(log_p))


class MeanSeparation:
    r"""Squared hinge on the distances between the class means of the mixture.

    .. math:: \frac{2}{K (K - 1)} \textstyle\sum_{i < j} \max(0,\ d - \|\mu_i - \mu_j\| / \sigma)^2

    with :math:`\sigma` the mean standard deviation of the components; with several components per class, the
    pairs within a class do not count.
    """

    reads: frozenset[str] = frozenset()

    def __init__(self, config: MeanSeparationConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"mean_separation": scalar}`; 0 with a single class."""
        # the unit has no gradient, or components would shrink to seem further apart
        mixture = model.mixture
        distances = torch.pdist(mixture.means.float()) / mixture.scales.detach().mean()
        if mixture.components > 1:
            first, second = torch.triu_indices(len(mixture.means), len(mixture.means), 1)
            classes = mixture.component_classes
            distances = distances[classes[first] != classes[second]]
        missing = torch.relu(self.config.distance - distances)
        return {"mean_separation": mean_of_sum(missing.square().sum(), len(missing))}


class LogDetPenalty:
    r"""Mean squared log-determinant per dimension, of the labelled rows and the strong views.

    .. math:: \overline{(\log|\det \partial f / \partial x| / D)^2}
    """

    reads = frozenset({"strong"})

    def __init__(self, config: LogDetPenaltyConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"log_det_penalty": scalar}`."""
        labelled, strong = batch.student["labelled"], batch.student["strong"]
        log_det = torch.cat([labelled.log_det, strong.log_det]) / strong.z.shape[1]
        return {"log_det_penalty": mean_of_sum(log_det.square().sum(), len(log_det))}

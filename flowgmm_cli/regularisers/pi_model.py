r"""The Pi-model (Laine and Aila, 2017).

.. math:: \textstyle\sum_k \big(p(k \mid x_{strong}) - p(k \mid x_{weak})\big)^2
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import PiModelConfig


class PiModel:
    """Squared difference of the tempered class probabilities of two views under the student."""

    reads = frozenset({"strong"})

    def __init__(self, config: PiModelConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"pi_model": scalar}`; the weak view is the target and takes no gradient."""
        with torch.no_grad():
            target = torch.softmax(model(batch.weak).class_log_prob / batch.temperature, dim=1)
        p = torch.softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        # The sum over no rows is 0 where their mean would be NaN.
        loss = (p - target).square().sum() / max(1, len(p))
        return {"pi_model": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}

r"""Entropy minimisation (Grandvalet and Bengio, 2004).

.. math:: -\textstyle\sum_k p(k \mid x) \log p(k \mid x)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import EntropyConfig


class Entropy:
    """Mean entropy of the student's tempered posterior of the strong view, in nats."""

    reads = frozenset({"strong"})

    def __init__(self, config: EntropyConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"entropy": scalar}`."""
        log_p = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        # The sum over no rows is 0 where their mean would be NaN.
        loss = -(log_p.exp() * log_p).sum() / max(1, len(log_p))
        return {"entropy": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}

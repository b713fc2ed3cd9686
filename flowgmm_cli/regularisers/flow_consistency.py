r"""The paper's consistency term (Izmailov et al., 2020, section 4.3).

.. math:: -\frac{1}{D} \log p(x_{strong} \mid \hat y), \qquad \hat y = \arg\max_k p(k \mid x_{weak})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import FlowConsistencyConfig


class FlowConsistency:
    """Negative log-density of the strong view in the class that the student gives the weak view."""

    reads = frozenset({"strong"})

    def __init__(self, config: FlowConsistencyConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"flow_consistency": scalar}`; the label takes no gradient, and there is no teacher."""
        with torch.no_grad():
            label = model(batch.weak).class_log_prob.argmax(1, keepdim=True)
        strong = batch.student["strong"]
        # p(x | k), not p(x, k): a class's weight says nothing about the rows within it
        component = strong.class_log_prob - model.mixture.log_weights
        log_prob = component.gather(1, label)[:, 0] + strong.log_det
        # The sum over no rows is 0 where their mean would be NaN.
        divisor = strong.z.shape[1] if self.config.per_dimension else 1
        loss = -log_prob.sum() / (max(1, len(log_prob)) * divisor)
        return {"flow_consistency": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}

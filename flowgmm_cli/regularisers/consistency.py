r"""Consistency between views with a soft target.

.. math:: \mathrm{CE}\big(\mathrm{sharpen}(p_{teacher}(k \mid x_{weak})),\ p_{student}(k \mid x_{strong})\big)

The paper's consistency term (Izmailov et al., 2020, section 4.3) takes the most likely class as a hard label;
a soft, tempered and sharpened target lets doubtful rows pull less. The teacher is an exponential moving
average of the student (Tarvainen and Valpola, 2017), the sharpening that of Berthelot et al. (2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import ConsistencyConfig


class Consistency:
    """Cross-entropy of the student on the strong view to the teacher's sharpened posterior on the weak."""

    reads = frozenset({"strong"})

    def __init__(self, config: ConsistencyConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"consistency": scalar}`; no gradient reaches the teacher."""
        with torch.no_grad():
            log_prob = teacher(batch.weak).class_log_prob / batch.temperature
            target = torch.softmax(torch.log_softmax(log_prob, dim=1) / self.config.sharpening, dim=1)
        student = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        # The sum over no rows is 0 where their mean would be NaN.
        loss = -(target * student).sum() / max(1, len(target))
        return {"consistency": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}

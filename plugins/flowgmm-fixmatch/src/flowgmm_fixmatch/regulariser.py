r"""FixMatch (Sohn et al., 2020).

.. math:: \frac{1}{N} \sum_n 1\left[\max_k q_{nk} \ge \tau_n\right] \,
          \mathrm{CE}\left(\hat q_n, \, p(\cdot \mid x^{strong}_n)\right), \qquad
          q_n = p(\cdot \mid x^{weak}_n)

with tempered posteriors on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_fixmatch import thresholds
from flowgmm_fixmatch.plugin import FixMatchConfig


class FixMatch:
    """Cross-entropy of the strong view to confident predictions of the weak one."""

    def __init__(self, config: FixMatchConfig) -> None:
        self.config = config
        self.reads = frozenset({"strong"} if config.predictor == "teacher" else {"strong", "weak"})

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"fixmatch": scalar}`; targets and thresholds take no gradient."""
        with torch.no_grad():
            weak = teacher(batch.weak) if self.config.predictor == "teacher" else batch.student["weak"]
            probabilities = torch.softmax(weak.class_log_prob.detach() / batch.temperature, dim=1)
            confidence, label = probabilities.max(dim=1)
            counts = (confidence >= self._thresholds(probabilities)).to(probabilities.dtype)
        log_p = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        if self.config.targets == "hard":
            losses = -log_p.gather(1, label[:, None])[:, 0]
        else:
            losses = -(probabilities * log_p).sum(1)
        # The sum over no rows is 0 where their mean would be NaN.
        loss = (counts * losses).sum() / max(1, len(losses))
        ramp = self.config.ramp_epochs
        return {"fixmatch": (1.0 if ramp <= 0 else min(1.0, batch.epoch / ramp)) * loss}

    def _thresholds(self, probabilities: Tensor) -> Tensor:
        if self.config.thresholds == "flex":
            return thresholds.flexmatch_threshold(probabilities, self.config.threshold)
        if self.config.thresholds == "free":
            return thresholds.freematch_threshold(probabilities)
        return thresholds.constant_threshold(probabilities, self.config.threshold)

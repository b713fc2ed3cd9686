r"""Mixup of latents (Verma et al., 2019; Zhang et al., 2018), with targets as in MixMatch.

.. math:: \mathrm{CE}\big(\lambda t_i + (1 - \lambda) t_j,\ p(k \mid \lambda z_i + (1 - \lambda) z_j)\big),
          \qquad \lambda = \max(\lambda', 1 - \lambda'), \quad \lambda' \sim \mathrm{Beta}(a, a)

with z the student's latents of the strong views and t the teacher's tempered and sharpened posteriors of the
weak ones (Berthelot et al., 2019, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.ramp import linear_ramp
from flowgmm_cli.regularisers.specs import MixupConfig


class Mixup:
    """Cross-entropy of the mixture at a point between two latents to the same mix of their targets."""

    reads = frozenset({"strong"})

    def __init__(self, config: MixupConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"mixup": scalar}`; no gradient reaches the teacher."""
        with torch.no_grad():
            log_prob = teacher(batch.weak).class_log_prob / batch.temperature
            target = torch.softmax(torch.log_softmax(log_prob, dim=1) / self.config.sharpening, dim=1)
        z = batch.student["strong"].z
        partner = torch.randperm(len(z), generator=batch.generator, device=z.device)
        share = larger_shares(len(z), self.config.alpha, batch.generator).to(z.dtype)[:, None]
        mixed = model.mixture.class_log_prob(torch.lerp(z[partner], z, share))
        student = torch.log_softmax(mixed / batch.temperature, dim=1)
        # The sum over no rows is 0 where their mean would be NaN.
        loss = -(torch.lerp(target[partner], target, share) * student).sum() / max(1, len(z))
        return {"mixup": linear_ramp(batch.epoch, self.config.ramp_epochs) * loss}


def larger_shares(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    r"""Draw :math:`\max(\lambda, 1 - \lambda)` with :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`.

    Torch's own gamma and beta draws take no generator; a symmetric beta variable has a closed form in two
    uniform ones (Devroye, 1996, "Random variate generation in one line of code"), without rejections:
    :math:`\lambda = \frac12 \pm \frac12 \big(1 + 1 / ((U^{-1/\alpha} - 1) \cos^2 2 \pi V)\big)^{-1/2}`.

    Returns:
        float32 `(count,)` in [1/2, 1], on the device of the generator.
    """
    u, v = torch.empty(2, count, device=generator.device).uniform_(generator=generator)
    spread = torch.expm1(-u.log() / alpha) * torch.cos(2 * math.pi * v).square()
    return 0.5 + 0.5 * torch.rsqrt(1 + 1 / spread)

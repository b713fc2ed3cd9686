r"""A penalty on extreme changes of volume.

.. math:: \overline{(\log|\det \partial f / \partial x| / D)^2}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Batch
from flowgmm_cli.regularisers.specs import LogDetPenaltyConfig


class LogDetPenalty:
    """Mean squared log-determinant per dimension, of the labelled rows and the strong views."""

    reads = frozenset({"strong"})

    def __init__(self, config: LogDetPenaltyConfig) -> None:
        self.config = config

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{"log_det_penalty": scalar}`."""
        seen = (batch.student["labelled"], batch.student["strong"])
        log_det = torch.cat([latents.log_det for latents in seen]) / seen[0].z.shape[1]
        return {"log_det_penalty": log_det.square().sum() / max(1, len(log_det))}

r"""The default objective.

.. math:: w_y\, \mathrm{CE}\big(y, \mathrm{softmax}_k(\log \pi_k N_k(f(x)) / \tau)\big)
          \;-\; \frac{w_x}{D}\, \overline{\log p(x)}

with :math:`\tau = \sqrt{D} / 4`: the log-odds of a D-dimensional mixture have a spread of about
:math:`\sqrt{D}` and would saturate every softmax; if fewer dimensions carry the classes, their number
replaces D here. Dividing the density by D is the balance of IB-INN (Ardizzone et al., 2020).

The loss of the paper's program for images, :math:`w\, \mathrm{CE} - \overline{\log p(x)}` plus the term
`flow_consistency` (Izmailov et al., 2020, section 4.3), is `{labelled: 3, density: 1, temperature: 1,
per_dimension: false}` with `{use: flow_consistency, per_dimension: false}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.api import Batch
from flowgmm_cli.objectives.specs import HybridConfig


class Hybrid:
    """Tempered cross-entropy of labelled rows plus the negative log-density of all rows per dimension.

    Args:
        config: weights.
        features: D.
        labelled: number of labelled rows.
        unlabelled: number of rows without a label.
        dims: how many of the D latent dimensions carry the classes; None = all.
    """

    pool: Literal["all"] = "all"

    def __init__(
        self,
        config: HybridConfig,
        *,
        features: int,
        labelled: int,
        unlabelled: int,
        dims: int | None = None,
    ) -> None:
        self.config = config
        self.divisor = features if config.per_dimension else 1
        self.reads = frozenset({config.rows})
        self.temperature = config.temperature or max(1.0, math.sqrt(dims or features) / 4)

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `labelled` (0 without labelled rows) and `unlabelled`, the density of all rows."""
        labelled, other = batch.student["labelled"], batch.student[self.config.rows]
        log_prob = torch.cat([labelled.log_prob(), other.log_prob()])
        logits = labelled.class_log_prob / self.temperature
        # The sum over no rows is 0 where their mean would be NaN.
        cross_entropy = F.cross_entropy(logits, batch.labels, reduction="sum") / max(1, len(batch.labels))
        return {
            "labelled": self.config.labelled * cross_entropy,
            "unlabelled": -self.config.density / self.divisor * log_prob.mean(),
        }

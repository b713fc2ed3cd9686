r"""Thresholds of the probability above which a predicted class counts, for each row.

FlexMatch and FreeMatch keep statistics between steps: counts over all rows, moving averages of confidences.
Here the statistics are those of the batch, and the averaged model that predicts changes slowly instead. So
there is no state to save, a resumed run continues exactly, and the loss of held-out rows has no side effect.

All functions take probabilities `(N, K)` and return thresholds `(N,)`, without waiting for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def constant_threshold(probabilities: Tensor, threshold: float) -> Tensor:
    """Return the same threshold for every row (FixMatch, Sohn et al., 2020, eq. 4)."""
    return probabilities.new_full((len(probabilities),), threshold)


def flexmatch_threshold(probabilities: Tensor, threshold: float) -> Tensor:
    r"""Return lower thresholds for classes with few confident rows (Zhang et al., 2021, eqs. 5 to 11).

    With :math:`\sigma_k` rows of class k at or above the threshold, and :math:`u` rows below it,

    .. math:: \beta_k = \frac{\sigma_k}{\max(\max_j \sigma_j, u)}, \qquad
              \tau_k = \frac{\beta_k}{2 - \beta_k} \, \tau
    """
    confidence, label = _most_likely(probabilities)
    confident = (confidence >= threshold).to(probabilities.dtype)
    counts = (_encode_labels(label, probabilities) * confident[:, None]).sum(0)
    most = torch.maximum(counts.amax(), len(probabilities) - counts.sum()).clamp_min(1)
    learnt = counts / most
    return (threshold * learnt / (2 - learnt))[label]


def freematch_threshold(probabilities: Tensor) -> Tensor:
    r"""Return the mean confidence, lower for classes of little probability (FreeMatch, Wang et al., 2023).

    .. math:: \tau_k = \frac{\bar p_k}{\max_j \bar p_j} \; \overline{\max_j p_j}
    """
    confidence, label = _most_likely(probabilities)
    rows = max(1, len(probabilities))
    mean = probabilities.sum(0) / rows
    share = mean / mean.amax().clamp_min(torch.finfo(mean.dtype).tiny)
    return share[label] * (confidence.sum() / rows)


def _most_likely(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    best = probabilities.max(dim=1)
    return best.values, best.indices


def _encode_labels(label: Tensor, probabilities: Tensor) -> Tensor:
    return F.one_hot(label, probabilities.shape[1]).to(probabilities.dtype)

r"""From which probability on a predicted class counts, per row.

FlexMatch and FreeMatch carry statistics from step to step: counts over all rows, moving averages of
confidences. Here they are those of the batch at hand. What moves slowly in their place is the averaged model
that makes the predictions; so nothing has to be saved, a resumed run goes on exactly, and asking for the
loss of held-out rows changes nothing.

All functions take probabilities `(N, K)` and return thresholds `(N,)`, without waiting for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def fixed(probabilities: Tensor, threshold: float) -> Tensor:
    """The same for every row (FixMatch, Sohn et al., 2020, eq. 4)."""
    return probabilities.new_full((len(probabilities),), threshold)


def flex(probabilities: Tensor, threshold: float) -> Tensor:
    r"""Lower for classes with few confident rows (FlexMatch, Zhang et al., 2021, eqs. 5 to 11).

    With :math:`\sigma_k` rows of class k at or above the threshold, and :math:`u` rows below it,

    .. math:: \beta_k = \frac{\sigma_k}{\max(\max_j \sigma_j, u)}, \qquad
              \tau_k = \frac{\beta_k}{2 - \beta_k} \, \tau
    """
    confidence, label = _most_likely(probabilities)
    confident = (confidence >= threshold).to(probabilities.dtype)
    counts = (_one_hot(label, probabilities) * confident[:, None]).sum(0)
    most = torch.maximum(counts.amax(), len(probabilities) - counts.sum()).clamp_min(1)
    learnt = counts / most
    return (threshold * learnt / (2 - learnt))[label]


def free(probabilities: Tensor) -> Tensor:
    r"""The mean confidence, lower for classes of little probability (FreeMatch, Wang et al., 2023).

    .. math:: \tau_k = \frac{\bar p_k}{\max_j \bar p_j} \; \overline{\max_j p_j}
    """
    confidence, label = _most_likely(probabilities)
    rows = max(1, len(probabilities))
    mean = probabilities.sum(0) / rows
    share = mean / mean.amax().clamp_min(torch.finfo(mean.dtype).tiny)
    return share[label] * (confidence.sum() / rows)


def _most_likely(probabilities: Tensor) -> tuple[Tensor, Tensor]:
    found = probabilities.max(dim=1)
    return found.values, found.indices


def _one_hot(label: Tensor, probabilities: Tensor) -> Tensor:
    return F.one_hot(label, probabilities.shape[1]).to(probabilities.dtype)

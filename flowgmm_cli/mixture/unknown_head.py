"""Probability of an unknown kind, by a head beside the mixture.

The flow and the classes are trained as without it, so that a false alarm changes no prediction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.mixture.clusters import fit_logistic
from flowgmm_cli.mixture.unknown import UnknownKinds, sample_positions

_MAX_LABELLED = 5000  # rows that the regression is fitted to
_MAX_OTHERS = 20_000  # unlabelled rows that share the probabilities
_BISECTIONS = 60


class UnknownHead(nn.Module):
    r"""Log-odds of M unknown kinds against K classes, by a logistic regression on preprocessed rows.

    .. math:: \log \sum_m e^{w_m x + b_m} - \log \sum_k e^{w_k x + b_k}

    Args:
        features: length of a row, D.
        classes: K.
        count: M.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, *, classes: int, count: int = 1) -> None:
        super().__init__()
        self.classes, self.count = classes, count
        self.register_buffer("weight", torch.zeros(classes + count, features))
        self.register_buffer("bias", torch.zeros(classes + count))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the log-odds of rows `(N, *shape)`, `(N,)`."""
        logits = nn.functional.linear(x.flatten(1).to(self.weight.dtype), self.weight, self.bias)
        return logits[:, self.classes :].logsumexp(1) - logits[:, : self.classes].logsumexp(1)


@torch.no_grad()
def fit_head(
    x: Matrix, labels: Tensor, unknown: UnknownKinds, *, classes: int, generator: torch.Generator
) -> UnknownHead:
    """Fit a head to labelled rows and to the examples of unknown kinds.

    Its probabilities of unknown kinds have the estimated share as their mean over the unlabelled rows.

    Args:
        x: preprocessed training rows `(N, D)`, on the CPU.
        labels: their visible classes, int64 `(N,)`, -1 where unlabelled.
        unknown: the examples.
        classes: K.
        generator: random numbers, on the CPU.
    """
    known = sample_positions(labels >= 0, _MAX_LABELLED, generator)
    others = x[sample_positions(labels < 0, _MAX_OTHERS, generator)]
    rows = torch.cat([x[known], x[unknown.examples]]).double().numpy()
    present, y = np.unique(
        torch.cat([labels[known], classes + unknown.components]).numpy(), return_inverse=True
    )
    unit = float(rows.std()) or 1.0
    weight, bias = fit_logistic(rows / unit, y)
    head = UnknownHead(x.shape[1], classes=classes, count=unknown.count)
    head.bias.fill_(-1e4)  # classes without a visible label
    index = torch.from_numpy(present)
    head.weight[index] = torch.from_numpy(weight / unit).float()
    head.bias[index] = torch.from_numpy(bias).float()
    log_odds = head(others).double()
    low, high = (-float(values) - 20 for values in (log_odds.max(), log_odds.min() - 40))
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if (log_odds + middle).sigmoid().mean() < unknown.share else (low, middle)
    head.bias[classes:] += low
    return head

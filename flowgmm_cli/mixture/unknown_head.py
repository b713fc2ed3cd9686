"""Probability of an unknown kind, by a head beside the mixture.

The flow and the classes are trained as without it, so that a false alarm changes no prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowgmm_cli.data.tensors import Matrix
from flowgmm_cli.mixture.clusters import fit_logistic
from flowgmm_cli.mixture.unknown import UnknownKinds, sample_positions

_MAX_CENTRES = 1000
_OPERATIONS = 1e8  # centres * centres * classes of the regression: a second or two
_MAX_OTHERS = 20_000  # unlabelled rows whose share with a probability above 1/2 is counted
_NARROWNESS = 4.0  # gamma times the median squared distance of centres


class UnknownHead(nn.Module):
    r"""Log-odds of M unknown kinds against K classes, by logistic regression on C radial kernels.

    .. math:: \log \sum_m e^{l_m} - \log \sum_k e^{l_k}, \qquad
              l_i = b_i + \textstyle\sum_c w_{ic} \exp(-\gamma |x - x_c|^2)

    A row far from all centres has the log-odds of the biases.

    Args:
        features: length of a row, D.
        classes: K.
        count: M.
    """

    centres: Tensor
    gamma: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, features: int, *, classes: int, count: int = 1) -> None:
        super().__init__()
        self.classes, self.count = classes, count
        self.register_buffer("centres", torch.zeros(1, features))
        self.register_buffer("gamma", torch.ones(()))
        self.register_buffer("weight", torch.zeros(classes + count, 1))
        self.register_buffer("bias", torch.zeros(classes + count))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the log-odds of rows `(N, *shape)`, `(N,)`."""
        logits = nn.functional.linear(self.kernels(x.flatten(1)), self.weight, self.bias)
        return logits[:, self.classes :].logsumexp(1) - logits[:, : self.classes].logsumexp(1)

    def kernels(self, x: Tensor) -> Tensor:
        """Compute the kernels of rows `(N, D)`, `(N, C)`."""
        x, centres = x.to(self.centres.dtype), self.centres
        squares = x.square().sum(1, keepdim=True) + centres.square().sum(1) - 2 * x @ centres.T
        return torch.exp(-self.gamma * squares.clamp_min(0))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Take over the number of centres, which the recipe does not know."""
        count = len(state_dict[f"{prefix}centres"]) if f"{prefix}centres" in state_dict else 1
        self.centres = self.centres.new_zeros(count, self.centres.shape[1])
        self.weight = self.weight.new_zeros(len(self.weight), count)
        super()._load_from_state_dict(state_dict, prefix, *others)


@torch.no_grad()
def fit_head(
    x: Matrix, labels: Tensor, unknown: UnknownKinds, *, classes: int, generator: torch.Generator
) -> UnknownHead:
    """Fit a head to labelled rows and to the examples of unknown kinds.

    The share of the unlabelled rows with a probability above 1/2 is the estimated one where it would lie
    outside of its interval.

    Args:
        x: preprocessed training rows `(N, D)`, on the CPU.
        labels: their visible classes, int64 `(N,)`, -1 where unlabelled.
        unknown: the examples.
        classes: K.
        generator: random numbers, on the CPU.
    """
    head = UnknownHead(x.shape[1], classes=classes, count=unknown.count)
    known = (labels >= 0).nonzero().flatten()
    rows = torch.cat([known, unknown.examples])
    y = torch.cat([labels[known], classes + unknown.components])
    most = min(_MAX_CENTRES, int((_OPERATIONS / len(head.bias)) ** 0.5))
    chosen = sample_positions(torch.ones(len(rows), dtype=torch.bool), most, generator)
    present, codes = np.unique(y[chosen].numpy(), return_inverse=True)
    head.centres = x[rows[chosen]].float()
    head.gamma = _NARROWNESS / torch.pdist(head.centres).square().median().clamp_min(1e-12)
    weight, bias = fit_logistic(head.kernels(head.centres).double().numpy(), codes, strength=0.1)
    head.weight = torch.zeros(len(head.bias), len(chosen))
    head.bias.fill_(-1e4)  # of a class without a visible label
    head.weight[present], head.bias[present] = (torch.from_numpy(part).float() for part in (weight, bias))
    log_odds = head(x[sample_positions(labels < 0, _MAX_OTHERS, generator)]).double()
    if not unknown.low <= float((log_odds > 0).double().mean()) <= unknown.high:
        head.bias[classes:] -= torch.quantile(log_odds, 1 - unknown.share)
    return head

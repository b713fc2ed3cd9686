"""The main losses: `hybrid`, the default, and `joint`, the paper's likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.api import Batch
from flowgmm_cli.objectives.specs import HybridConfig, JointConfig


class Hybrid:
    r"""Tempered cross-entropy of labelled rows plus the negative log-density of all rows per dimension.

    .. math:: w_y\, \mathrm{CE}\big(y, \mathrm{softmax}_k(\log \pi_k N_k(f(x)) / \tau)\big)
              \;-\; \frac{w_x}{D}\, \overline{\log p(x)}

    with :math:`\tau = \sqrt{D} / 4`: the log-odds of a D-dimensional mixture have a spread of about
    :math:`\sqrt{D}` and would saturate every softmax; if fewer dimensions carry the classes, their number
    replaces D here. Dividing the density by D is the balance of IB-INN (Ardizzone et al., 2020).

    The loss of the paper's program for images, :math:`w\, \mathrm{CE} - \overline{\log p(x)}` plus the
    term `flow_consistency` (Izmailov et al., 2020, section 4.3), is `{labelled: 3, density: 1,
    temperature: 1, per_dimension: false}` with `{use: flow_consistency, per_dimension: false}`.

    See `flowgmm_cli.api.Objective` for the arguments.
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
        # training puts the estimate in the place of `auto`, see `estimate_label_noise`
        self.label_noise = 0.0 if config.label_noise == "auto" else config.label_noise

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `labelled` (0 without labelled rows) and `unlabelled`, the density of all rows."""
        labelled, other = batch.student["labelled"], batch.student[self.config.rows]
        log_prob = torch.cat([labelled.log_prob(), other.log_prob()])
        logits = labelled.class_log_prob / self.temperature
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        if self.label_noise and logits.shape[1] > 1:
            losses = add_label_noise(losses, self.label_noise, logits.shape[1])
        losses = expect_losses(losses, torch.log_softmax(logits, dim=1), batch.targets)
        return {
            "labelled": self.config.labelled * mean_over_rows(losses, batch.weights),
            "unlabelled": -self.config.density / self.divisor * log_prob.mean(),
        }


class Joint:
    r"""Negative joint log-likelihood per row and dimension, the paper's objective.

    .. math:: \max_\theta \textstyle\sum_{labelled} \log p(x, y) + \sum_{unlabelled} \log p(x)

    (Izmailov et al., 2020, eq. 4), here as a mean over rows and divided by D, which changes neither the
    optimum nor the direction of a step.

    The paper's program weights the two means instead, and takes the unlabelled mean over all training
    rows: for tables and text :math:`-\overline{\log p(x \mid y)} - a\, \overline{\log p(x)}`, with both
    weights equal for its synthetic sets. With fixed, equal class weights p(x | y) and p(x, y) differ by a
    constant.

    See `flowgmm_cli.api.Objective` for the arguments; `dims` is not used. The weights of the two means are by
    default the rows' shares, the exact likelihood.
    """

    reads = frozenset({"weak"})
    temperature = 1.0

    def __init__(
        self,
        config: JointConfig,
        *,
        features: int,
        labelled: int,
        unlabelled: int,
        dims: int | None = None,
    ) -> None:
        if config.pool == "all":
            unlabelled += labelled
        total = max(1, labelled + unlabelled)
        self.pool: Literal["all", "unlabelled"] = config.pool
        self.class_weights = config.class_weights
        self.divisor = features if config.per_dimension else 1
        self.labelled = labelled / total if config.labelled is None else config.labelled
        self.unlabelled = unlabelled / total if config.unlabelled is None else config.unlabelled

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `labelled` and `unlabelled`; either is 0 without such rows."""
        labelled = batch.student["labelled"]
        by_class = labelled.class_log_prob
        if not self.class_weights:
            by_class = by_class - model.mixture.log_weights
        losses = -by_class.gather(1, batch.labels[:, None])[:, 0]
        losses = expect_losses(losses, by_class, batch.targets) - labelled.log_det
        marginal = batch.student["weak"].log_prob()
        return {
            "labelled": self.labelled / self.divisor * mean_over_rows(losses, batch.weights),
            "unlabelled": -self.unlabelled / self.divisor * marginal.sum() / max(1, len(marginal)),
        }


def add_label_noise(losses: Tensor, noise: float, classes: int) -> Tensor:
    r"""Return the negative log-likelihood of labels of which a share is wrong.

    .. math:: -\log\Big((1 - \epsilon) \, p_y + \frac{\epsilon}{K - 1} (1 - p_y)\Big)

    A label that the model finds unlikely then has little influence: it is taken for one of the wrong ones
    (Mnih and Hinton, 2012; the symmetric case of the forward correction of Patrini et al., 2017).

    Args:
        losses: negative log-probabilities of the labels, `(N,)`.
        noise: share of wrong labels, below (K - 1) / K.
        classes: K, at least 2.
    """
    other = noise / (classes - 1)  # probability of each wrong class
    return -torch.logaddexp(math.log1p(-noise - other) - losses, losses.new_tensor(math.log(other)))


def expect_losses(losses: Tensor, log_prob: Tensor, targets: Tensor | None) -> Tensor:
    """Return losses `(N,)`, their expectation where the label is uncertain.

    Args:
        losses: negative log-probabilities of the labels.
        log_prob: log-probabilities of all classes, `(N, K)`, further columns do not count.
        targets: class probabilities of uncertain labels, `(N, K)`, 0 for all others; None without any.
    """
    if targets is None:
        return losses
    expected = -(targets * log_prob[:, : targets.shape[1]]).sum(1)
    return torch.where(targets.any(1), expected, losses)


def mean_over_rows(values: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over rows of values times weights, whose mean over all rows is 1; 0 without rows."""
    return (values if weights is None else values * weights).sum() / max(1, len(values))

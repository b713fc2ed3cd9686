"""Additional terms of the loss: consistency of two views of a row, mixup, and penalties."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from flowgmm_cli.api import Batch, RegulariserConfig
from flowgmm_cli.regularisers.specs import (
    ConsistencyConfig,
    EntropyConfig,
    FlowConsistencyConfig,
    GuideConfig,
    LogDetPenaltyConfig,
    MeanSeparationConfig,
    MixupConfig,
    PiModelConfig,
    RampConfig,
    VatConfig,
)

ConfigT = TypeVar("ConfigT", bound=RegulariserConfig)


class Term(ABC, Generic[ConfigT]):
    """A term of the loss; those with a `RampConfig` grow linearly over the first epochs."""

    name: ClassVar[str]
    reads: frozenset[str] = frozenset({"strong"})

    def __init__(self, config: ConfigT) -> None:
        self.config = config

    @abstractmethod
    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the term at full weight, a scalar; 0 without rows."""

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{name: scalar}`."""
        length = self.config.ramp_epochs if isinstance(self.config, RampConfig) else 0.0
        return {self.name: linear_ramp(batch.epoch, length) * self.loss(model, teacher, batch)}


class Consistency(Term[ConsistencyConfig]):
    r"""Cross-entropy of the student on the strong view to the teacher's sharpened posterior on the weak view.

    .. math:: \mathrm{CE}\big(\mathrm{sharpen}(p_{teacher}(k \mid x_{weak})),
              \ p_{student}(k \mid x_{strong})\big)

    The paper's consistency term (Izmailov et al., 2020, section 4.3) uses the most likely class as a hard
    label; with a soft, tempered and sharpened target uncertain rows have less weight. The teacher is an
    exponential moving average of the student (Tarvainen and Valpola, 2017), the sharpening that of Berthelot
    et al. (2019). No gradient reaches the teacher.
    """

    name = "consistency"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy."""
        target = teacher_targets(teacher, batch, self.config.sharpening)
        student = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        return mean_of_sum(-(target * student).sum(), len(target))


class Guide(Term[GuideConfig]):
    r"""Cross-entropy of the student on the strong view to the guide: probabilities of simple methods.

    The targets are computed once, before training, see `flowgmm_cli.baselines.guide`.
    """

    name = "guide"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy; 0 without a guide."""
        strong = batch.student["strong"]
        if batch.guide is None:
            return strong.log_det.sum() * 0
        student = torch.log_softmax(strong.class_log_prob / batch.temperature, dim=1)
        return mean_of_sum(-(batch.guide * student).sum(), len(student))

    def __call__(self, model: Any, teacher: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return `{name: scalar}`."""
        fade = self.config.fade_epochs
        weight = 1.0 if fade is None else max(0.0, 1 - batch.epoch / fade)
        return {self.name: weight * self.loss(model, teacher, batch)}


class FlowConsistency(Term[FlowConsistencyConfig]):
    r"""Negative log-density of the strong view in the class that the student predicts for the weak view.

    .. math:: -\frac{1}{D} \log p(x_{strong} \mid \hat y), \qquad \hat y = \arg\max_k p(k \mid x_{weak})

    The paper's consistency term (Izmailov et al., 2020, section 4.3). The label has no gradient, and there is
    no teacher.
    """

    name = "flow_consistency"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean negative log-density."""
        with torch.no_grad():
            label = model(batch.weak).class_log_prob.argmax(1, keepdim=True)
        strong = batch.student["strong"]
        # p(x | k), not p(x, k): the weight of a class does not depend on the rows within it
        component = strong.class_log_prob - model.mixture.log_weights
        log_prob = component.gather(1, label)[:, 0] + strong.log_det
        divisor = strong.z.shape[1] if self.config.per_dimension else 1
        return mean_of_sum(-log_prob.sum(), len(log_prob)) / divisor


class PiModel(Term[PiModelConfig]):
    r"""Squared difference of the tempered class probabilities of two views (Laine and Aila, 2017).

    .. math:: \textstyle\sum_k \big(p(k \mid x_{strong}) - p(k \mid x_{weak})\big)^2

    Both are the student's; the weak view is the target and has no gradient.
    """

    name = "pi_model"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean squared difference."""
        with torch.no_grad():
            target = torch.softmax(model(batch.weak).class_log_prob / batch.temperature, dim=1)
        p = torch.softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        return mean_of_sum((p - target).square().sum(), len(p))


class Mixup(Term[MixupConfig]):
    r"""Mixup of latents (Verma et al., 2019; Zhang et al., 2018), with targets as in MixMatch.

    .. math:: \mathrm{CE}\big(\lambda t_i + (1 - \lambda) t_j,\ p(k \mid \lambda z_i + (1 - \lambda) z_j)\big)
              \qquad \lambda = \max(\lambda', 1 - \lambda'), \quad \lambda' \sim \mathrm{Beta}(a, a)

    with z the student's latents of the strong views and t the teacher's tempered and sharpened posteriors of
    the weak ones (Berthelot et al., 2019, section 3.3). No gradient reaches the teacher.
    """

    name = "mixup"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the mixture between pairs of latents."""
        target = teacher_targets(teacher, batch, self.config.sharpening)
        z = batch.student["strong"].z
        partner = torch.randperm(len(z), generator=batch.generator, device=z.device)
        share = draw_shares(len(z), self.config.alpha, batch.generator).to(z.dtype)[:, None]
        mixed = model.mixture.class_log_prob(torch.lerp(z[partner], z, share))
        student = torch.log_softmax(mixed / batch.temperature, dim=1)
        return mean_of_sum(-(torch.lerp(target[partner], target, share) * student).sum(), len(z))


class Vat(Term[VatConfig]):
    r"""Virtual adversarial training (Miyato et al., 2018).

    .. math:: \mathrm{KL}\big(p(\cdot \mid x)\ \|\ p(\cdot \mid x + r)\big), \qquad
              r = \arg\max_{\|r\| \le \epsilon} \mathrm{KL}

    p is the student's tempered posterior; power iteration on the curvature of the divergence gives the
    direction of r. Target and direction have no gradient.
    """

    name = "vat"
    reads: frozenset[str] = frozenset()

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean divergence under the worst small change of a row."""
        x = batch.weak
        unit = float(x[0].numel()) ** 0.5 if len(x) else 1.0
        with torch.no_grad():
            target = torch.softmax(model(x).class_log_prob / batch.temperature, dim=1)

        def divergence(change: Tensor) -> Tensor:
            log_p = torch.log_softmax(model(x + change).class_log_prob / batch.temperature, dim=1)
            return mean_of_sum(torch.nn.functional.kl_div(log_p, target, reduction="sum"), len(x))

        change = _unit_rows(torch.empty_like(x).normal_(generator=batch.generator))
        for _ in range(self.config.iterations):
            probe = (self.config.probe * unit * change).requires_grad_()
            with torch.enable_grad():
                (grad,) = torch.autograd.grad(divergence(probe), probe)
            change = _unit_rows(grad)
        return divergence(self.config.radius * unit * change)


class Entropy(Term[EntropyConfig]):
    r"""Mean entropy of the student's tempered posterior of the strong view, in nats.

    .. math:: -\textstyle\sum_k p(k \mid x) \log p(k \mid x)

    (Grandvalet and Bengio, 2004.)
    """

    name = "entropy"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean entropy."""
        log_p = torch.log_softmax(batch.student["strong"].class_log_prob / batch.temperature, dim=1)
        return mean_of_sum(-(log_p.exp() * log_p).sum(), len(log_p))


class MeanSeparation(Term[MeanSeparationConfig]):
    r"""Squared hinge on the distances between the class means of the mixture.

    .. math:: \frac{2}{K (K - 1)} \textstyle\sum_{i < j} \max(0,\ d - \|\mu_i - \mu_j\| / \sigma)^2

    with :math:`\sigma` the mean standard deviation of the components; with several components per class, the
    pairs within a class do not count.
    """

    name = "mean_separation"
    reads: frozenset[str] = frozenset()

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean over pairs of means; 0 with a single class."""
        # the unit has no gradient, or components would shrink to seem further apart
        mixture = model.mixture
        distances = torch.pdist(mixture.means.float()) / mixture.scales.detach().mean()
        if mixture.components > 1:
            first, second = torch.triu_indices(len(mixture.means), len(mixture.means), 1)
            classes = mixture.component_classes
            distances = distances[classes[first] != classes[second]]
        missing = torch.relu(self.config.distance - distances)
        return mean_of_sum(missing.square().sum(), len(missing))


class LogDetPenalty(Term[LogDetPenaltyConfig]):
    r"""Mean squared log-determinant per dimension, of the labelled rows and the strong views.

    .. math:: \overline{(\log|\det \partial f / \partial x| / D)^2}
    """

    name = "log_det_penalty"

    def loss(self, model: Any, teacher: Any, batch: Batch) -> Tensor:
        """Return the mean square."""
        labelled, strong = batch.student["labelled"], batch.student["strong"]
        log_det = torch.cat([labelled.log_det, strong.log_det]) / strong.z.shape[1]
        return mean_of_sum(log_det.square().sum(), len(log_det))


def linear_ramp(epoch: float, length: float) -> float:
    """Grow linearly from 0 to 1 over `length` epochs; 1 at once if `length` is 0.

    >>> linear_ramp(0.0, 3.0), linear_ramp(1.5, 3.0), linear_ramp(9.0, 3.0), linear_ramp(0.0, 0.0)
    (0.0, 0.5, 1.0, 1.0)
    """
    return 1.0 if length <= 0 else min(1.0, epoch / length)


def mean_of_sum(total: Tensor, rows: int) -> Tensor:
    """Divide the sum over rows by their number; 0 without rows, where their mean would be NaN."""
    return total / max(1, rows)


def teacher_targets(teacher: Any, batch: Batch, sharpening: float) -> Tensor:
    """Return the teacher's tempered and sharpened posterior of the weak view, `(U, K)`, without gradient."""
    with torch.no_grad():
        log_prob = teacher(batch.weak).class_log_prob / batch.temperature
        return torch.softmax(torch.log_softmax(log_prob, dim=1) / sharpening, dim=1)


def draw_shares(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    r"""Draw :math:`\max(\lambda, 1 - \lambda)` with :math:`\lambda \sim \mathrm{Beta}(\alpha, \alpha)`.

    Torch's own gamma and beta draws accept no generator; a symmetric beta variable has a closed form in two
    uniform ones (Devroye, 1996, "Random variate generation in one line of code"), without rejections:
    :math:`\lambda = \frac12 \pm \frac12 \big(1 + 1 / ((U^{-1/\alpha} - 1) \cos^2 2 \pi V)\big)^{-1/2}`.

    Returns:
        float32 `(count,)` in [1/2, 1], on the device of the generator.
    """
    u, v = torch.empty(2, count, device=generator.device).uniform_(generator=generator)
    spread = torch.expm1(-u.log() / alpha) * torch.cos(2 * math.pi * v).square()
    return 0.5 + 0.5 * torch.rsqrt(1 + 1 / spread)


def _unit_rows(x: Tensor) -> Tensor:
    """Scale rows to length 1; rows of zeros stay zero."""
    length: Tensor = x.flatten(1).norm(dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    return x / length.reshape(-1, *[1] * (x.ndim - 1))

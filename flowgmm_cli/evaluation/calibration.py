"""Temperature scaling (Guo et al., 2017) that stays sane with few, noisy labels and saturated densities."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]

_TINY = np.finfo(np.float64).tiny
_NOISES = np.linspace(0.001, 0.25, 84)


def fit_temperature(
    log_joint: FloatArray,
    labels: IntArray,
    *,
    pseudo_rows: float = 1.0,
    bounds: tuple[float, float] = (1e-4, 1e6),
) -> float:
    r"""Temperature T for which `softmax(log_joint / T)` predicts the labels best.

    Minimises, over :math:`\beta = 1/T`, the convex

    .. math:: \sum_n -\log p_\beta(y_n \mid x_n)
              + \frac{a}{N K} \sum_n \sum_k -\log p_\beta(k \mid x_n)

    Its second term is the likelihood of `a` more rows whose labels are uniform. Like Platt's (1999) smoothed
    targets it keeps rows that are all classified correctly from driving T to 0: N right answers are evidence
    for an error rate of about 1/N, no less. It scales with the densities, so that it is as weak for log-odds
    in the thousands as for log-odds near 1, and its influence vanishes with N.

    Args:
        log_joint: log-densities or logits, `(N, K)`; a constant per row does not matter.
        labels: true classes `(N,)`; rows with -1 are left out.
        pseudo_rows: the strength a.
        bounds: smallest and largest temperature. A model that is no better than chance gets the largest,
            one that gives all classes the same density gets 1.

    Raises:
        ValueError: no labelled rows, labels outside `0..K-1`, or densities that are not finite.
    """
    labels = np.asarray(labels)
    known = labels >= 0
    scores = np.asarray(log_joint, dtype=np.float64)[known]
    labels = labels[known]
    if (
        scores.ndim != 2
        or not len(scores)
        or not np.isfinite(scores).all()
        or labels.max() >= scores.shape[1]
    ):
        raise ValueError("need finite log-densities (N, K) and at least one label in 0..K-1")
    scores = scores - scores.max(1, keepdims=True)
    if not scores.any():
        return 1.0
    share = pseudo_rows / len(scores)
    target = scores[np.arange(len(scores)), labels].sum() + share * scores.mean(1).sum()

    def slope(log_temperature: float) -> float:
        """Derivative of the objective by beta: expected minus observed score."""
        weights = np.exp(scores * np.exp(-log_temperature))
        expected = (weights * scores).sum(1) / weights.sum(1)
        return float((1 + share) * expected.sum() - target)

    # The slope rises with beta, so it falls with T: bisect on log T, which spans many orders of magnitude.
    low, high = np.log(bounds[0]), np.log(bounds[1])
    if slope(high) >= 0:
        return float(bounds[1])
    if slope(low) <= 0:
        return float(bounds[0])
    while high - low > 1e-9:
        middle = (low + high) / 2
        if slope(middle) > 0:
            low = middle
        else:
            high = middle
    return float(np.exp((low + high) / 2))


def fit_temperature_and_noise(log_joint: FloatArray, labels: IntArray) -> tuple[float, float]:
    r"""Temperature T and noise :math:`\epsilon` for which labels are predicted best by

    .. math:: p(k \mid x) = (1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T) + \epsilon / K

    Some labels are wrong, or right for reasons that no density shows, however far a row lies from the
    boundary; 3 % in the common test sets (Northcutt, Athalye and Mueller, 2021). A temperature alone can
    only make room for them by doubting every row.

    Maximises the likelihood of the labels, the penalty of `fit_temperature` and a prior Beta(6, 96) on the
    noise, which has its mode at 5 % and counts for a hundred rows: fewer could hardly show it.

    Args:
        log_joint: log-densities or logits, `(N, K)`.
        labels: true classes `(N,)`; rows with -1 are left out.

    Raises:
        ValueError: as for `fit_temperature`.
    """
    from scipy.optimize import minimize_scalar

    start = fit_temperature(log_joint, labels)
    known = np.asarray(labels) >= 0
    scores = np.asarray(log_joint, dtype=np.float64)[known]
    truth = np.asarray(labels)[known]
    scores = scores - scores.max(1, keepdims=True)
    n, classes = scores.shape
    share = 1 / n  # of the penalty's one row

    def loss(log_temperature: float, noise: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        log_p = scaled - np.log(np.exp(scaled).sum(1, keepdims=True))
        right = (1 - noise) * np.exp(log_p[np.arange(n), truth]) + noise / classes
        prior = 5 * np.log(noise) + 95 * np.log1p(-noise)
        return float(-np.log(np.maximum(right, _TINY)).sum() - share * log_p.mean(1).sum() - prior)

    def best_temperature(noise: float) -> tuple[float, float]:
        around = np.log(start)
        found = minimize_scalar(
            loss, bounds=(around - 5, around + 0.5), args=(noise,), method="bounded", options={"xatol": 1e-6}
        )
        return float(found.fun), float(found.x)

    _, noise = min((best_temperature(noise)[0], noise) for noise in _NOISES)
    return float(np.exp(best_temperature(noise)[1])), float(noise)


def fit_class_bias(
    log_joint: FloatArray, labels: IntArray, *, noise: float, start: float = 1.0, strength: float = 5.0
) -> tuple[float, FloatArray]:
    r"""Temperature T and what to add to each class so that classes come out as often as they are.

    .. math:: p(k \mid x) = (1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T + b_k) + \epsilon / K

    Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, 2020) for a given epsilon.
    Maximises the likelihood of the labels, a Gaussian prior on b and one on the logarithm of T about that of
    `start`.

    Args:
        log_joint: log-densities or logits, `(N, K)`.
        labels: true classes `(N,)`; rows with -1 are left out.
        noise: epsilon.
        start: the temperature without biases.
        strength: precision of the priors; at 5, few rows move a class's odds by a half at most.

    Returns:
        T and b `(K,)`.
    """
    from scipy.optimize import minimize

    known = np.asarray(labels) >= 0
    truth = np.asarray(labels)[known]
    scores = np.asarray(log_joint, dtype=np.float64)[known] / start
    scores = scores - scores.max(1, keepdims=True)
    rows, classes = np.arange(len(scores)), scores.shape[1]

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        steepness, bias = np.exp(values[0]), values[1:]
        logits = steepness * scores + bias
        odds = np.exp(logits - logits.max(1, keepdims=True))
        p = odds / odds.sum(1, keepdims=True)
        own = p[rows, truth]
        right = np.maximum((1 - noise) * own + noise / classes, _TINY)
        share = (1 - noise) * own / right  # of the likelihood's slope that the softmax answers for
        by_logit = share[:, None] * p
        by_logit[rows, truth] -= share
        slope = np.array([steepness * (by_logit * scores).sum(), *by_logit.sum(0)])
        penalty = strength * values @ values / 2
        return float(penalty - np.log(right).sum()), slope + strength * values

    values = minimize(loss, np.zeros(1 + classes), jac=True, method="L-BFGS-B").x
    return float(start * np.exp(-values[0])), values[1:]


def margin_scale(log_joint: FloatArray) -> float:
    """How large a model's log-odds are: of log-densities `(N, K)`, the 95 % quantile of first minus second.

    A quantile this high is that of rows of which the model is in no doubt. A better model is in doubt of
    fewer rows, so that means and medians of two models differ by more than their scale.
    """
    first_two = np.partition(np.asarray(log_joint, dtype=np.float64), -2, axis=1)[:, -2:]
    return float(np.quantile(first_two[:, 1] - first_two[:, 0], 0.95))

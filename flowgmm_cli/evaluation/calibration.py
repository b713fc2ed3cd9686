"""Calibration: temperature scaling for few, noisy labels and saturated densities, and its errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Bools, FloatArray, Floats, IntArray

_TINY = np.finfo(np.float64).tiny
_BLOCK = 2**18  # entries of a temporary array; 2 MiB
_LARGE_BLOCK = 2**22  # likewise, where sums over blocks are added up and round differently
_BOUNDS = (1e-4, 1e6)  # of a temperature
_NOISES = np.linspace(0.001, 0.25, 84)
EXPECTED_NOISE = 0.05
"""Share of labels that are taken for random before any is seen."""


def fit_temperature(log_joint: FloatArray, labels: IntArray) -> float:
    r"""Fit the temperature T for which `softmax(log_joint / T)` predicts the labels best (Guo et al., 2017).

    Minimises, over :math:`\beta = 1/T`, the convex

    .. math:: \sum_n -\log p_\beta(y_n \mid x_n)
              + \frac{1}{N K} \sum_n \sum_k -\log p_\beta(k \mid x_n)

    Its second term is the likelihood of one more row whose label is uniform. Like Platt's (1999) smoothed
    targets it keeps rows that are all classified correctly from driving T to 0: N right answers are evidence
    for an error rate of about 1/N, no less. It scales with the densities, so that it is as weak for log-odds
    in the thousands as for log-odds near 1, and its influence vanishes with N.

    A model that is no better than chance gets the largest temperature, 1e6, one that gives all classes the
    same density gets 1. `log_joint` are log-densities or logits, `(N, K)`, where a constant per row does not
    matter, and `labels` true classes `(N,)`, where rows with -1 are left out.

    Raises:
        ValueError: no labelled rows, labels outside `0..K-1`, or densities that are not finite.
    """
    from scipy.optimize import brentq

    scores, labels = _select_labelled(log_joint, labels)
    true, mean = np.empty(len(scores)), np.empty(len(scores))
    for part, block in _blocks(scores):
        true[part], mean[part] = block[np.arange(len(block)), labels[part]], block.mean(1)
    if not mean.any():
        return 1.0
    share = 1 / len(scores)
    target = true.sum() + share * mean.sum()

    def gradient(log_temperature: float) -> float:
        """Derivative of the objective by beta: expected minus observed score."""
        expected = np.empty(len(scores))
        for part, block in _blocks(scores):
            weights = np.exp(block * np.exp(-log_temperature))
            expected[part] = (weights * block).sum(1) / weights.sum(1)
        return float((1 + share) * expected.sum() - target)

    # The gradient falls with T. The root is sought in log T, which spans many orders of magnitude.
    low, high = np.log(_BOUNDS)
    if gradient(high) >= 0:
        return _BOUNDS[1]
    if gradient(low) <= 0:
        return _BOUNDS[0]
    log_temperature = brentq(gradient, low, high, xtol=1e-12)
    scores = np.empty((0, 0))  # SciPy refers to `gradient`, and so to them, until a garbage collection
    return float(np.exp(log_temperature))


def fit_temperature_and_noise(
    log_joint: FloatArray, labels: IntArray, *, expected: float = EXPECTED_NOISE
) -> tuple[float, float]:
    r"""Fit the temperature T and noise :math:`\epsilon` that predict the labels best by

    .. math:: p(k \mid x) = (1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T) + \epsilon / K

    Some labels are wrong, or correct for reasons that no density shows, however far a row lies from the
    boundary; 3 % in the common test sets (Northcutt, Athalye and Mueller, 2021). A temperature alone can
    account for them only by a lower confidence in every row.

    Maximises the likelihood of the labels, the penalty of `fit_temperature` and a beta prior on the noise,
    which has its mode at `expected` and counts for a hundred rows: fewer could hardly show it. Other
    arguments and errors are those of `fit_temperature`.
    """
    from scipy.optimize import minimize_scalar

    start = fit_temperature(log_joint, labels)
    scores, truth = _select_labelled(log_joint, labels)
    n, classes = scores.shape
    share = 1 / n  # of the penalty's one row

    def losses(log_temperature: float, noises: FloatArray) -> FloatArray:
        """Return the loss for each noise."""
        p_true, mean_log_p = np.empty(n), np.empty(n)
        for part, block in _blocks(scores):
            log_p = block * np.exp(-log_temperature)
            log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
            p_true[part] = np.exp(log_p[np.arange(len(log_p)), truth[part]])
            mean_log_p[part] = log_p.mean(1)
        likelihood = np.maximum((1 - noises)[:, None] * p_true + noises[:, None] / classes, _TINY)
        prior = 100 * (expected * np.log(noises) + (1 - expected) * np.log1p(-noises))
        return np.asarray(-np.log(likelihood).sum(1) - share * mean_log_p.sum() - prior)

    def minimise(noises: FloatArray, low: float, high: float) -> tuple[float, float]:
        """Return the lowest loss for any of the noises, and the logarithm of its temperature."""
        best = minimize_scalar(
            lambda log_temperature: losses(log_temperature, noises).min(),
            bounds=(low, high),
            method="bounded",
            options={"xatol": 1e-6},
        )
        return float(best.fun), float(best.x)

    grid = _NOISES * max(1.0, 2 * expected / _NOISES[-1])
    low, high = np.log(start) - 5, np.log(start) + 0.5
    steps = np.linspace(low, high, 23)  # a wide search first, since the loss may have several minima
    middle = int(np.argmin([losses(step, grid).min() for step in steps]))
    _, near = minimise(grid, steps[max(middle - 1, 0)], steps[min(middle + 1, len(steps) - 1)])
    place = int(losses(near, grid).argmin())
    fits = [(*minimise(noise, low, high), *noise) for noise in grid[max(place - 2, 0) : place + 3, None]]
    _, log_temperature, noise = min(fits)
    return float(np.exp(log_temperature)), float(noise)


def fit_class_bias(
    log_joint: FloatArray, labels: IntArray, *, noise: float, start: float = 1.0, strength: float = 5.0
) -> tuple[float, FloatArray]:
    r"""Fit the temperature T and a bias of each class, so that classes are predicted as often as they occur.

    .. math:: p(k \mid x) = (1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T + b_k) + \epsilon / K

    Bias-corrected temperature scaling (Alexandari, Kundaje and Shrikumar, 2020) for a given `noise`, epsilon.
    Maximises the likelihood of the labels, a Gaussian prior on b and one on the logarithm of T about that of
    `start`, both of precision `strength`; at 5, few rows move a class's odds by a half at most. Returns T and
    b `(K,)`; other arguments as for `fit_temperature`.
    """
    from scipy.optimize import minimize

    scores, truth = _select_labelled(log_joint, labels)
    classes = scores.shape[1]

    def loss(values: FloatArray) -> tuple[float, FloatArray]:
        steepness, bias = np.exp(values[0]), values[1:]
        total, gradient = strength * values @ values / 2, strength * values
        for part, block in _blocks(scores, _LARGE_BLOCK):
            rows, labels = np.arange(len(block)), truth[part]
            block /= start
            logits = steepness * block + bias
            odds = np.exp(logits - logits.max(1, keepdims=True))
            p = odds / odds.sum(1, keepdims=True)
            p_true = p[rows, labels]
            likelihood = np.maximum((1 - noise) * p_true + noise / classes, _TINY)
            share = (1 - noise) * p_true / likelihood  # of the softmax in the likelihood's gradient
            by_logit = share[:, None] * p
            by_logit[rows, labels] -= share
            total -= np.log(likelihood).sum()
            gradient += np.array([steepness * (by_logit * block).sum(), *by_logit.sum(0)])
        return float(total), gradient

    values = minimize(loss, np.zeros(1 + classes), jac=True, method="L-BFGS-B").x
    return float(start * np.exp(-values[0])), values[1:]


def temper_log_joint(log_joint: FloatArray, temperature: float, noise: float) -> Floats:
    r"""Compute calibrated log-probabilities `(N, K)`, as `flowgmm_cli.model.Model.log_posterior` does.

    .. math:: \log\big((1 - \epsilon) \, \mathrm{softmax}_k(\log p(x, k) / T) + \epsilon / K\big)
    """
    result = np.empty(log_joint.shape)
    for part, log_p in _temper_blocks(log_joint, temperature, noise):
        result[part] = log_p
    return result


def temper_true_classes(log_joint: FloatArray, labels: IntArray, temperature: float, noise: float) -> Floats:
    """Compute the entries of `temper_log_joint` for the labels, `(N,)`, without the others in memory."""
    result = np.empty(len(labels))
    for part, log_p in _temper_blocks(log_joint, temperature, noise):
        result[part] = log_p[np.arange(len(log_p)), labels[part]]
    return result


def _temper_blocks(log_joint: FloatArray, temperature: float, noise: float) -> Iterator[tuple[slice, Floats]]:
    from scipy.special import log_softmax

    uniform = np.log(noise / log_joint.shape[1]) if noise else -np.inf
    for part, block in _blocks(log_joint, shift=False):
        yield part, np.logaddexp(log_softmax(block / temperature, axis=1) + np.log1p(-noise), uniform)


def margin_scale(log_joint: FloatArray) -> float:
    """Return the scale of log-odds: the 95 % quantile of largest minus second largest in `(N, K)`.

    A quantile this high describes rows that the model is certain of. A better model is uncertain of fewer
    rows, so means and medians of two models differ by more than their scale.
    """
    first_two = np.partition(log_joint, -2, axis=1)[:, -2:].astype(np.float64)
    return float(np.quantile(first_two[:, 1] - first_two[:, 0], 0.95))


def _select_labelled(log_joint: FloatArray, labels: IntArray) -> tuple[FloatArray, IntArray]:
    """Return the labelled rows and their labels; see `fit_temperature`."""
    scores, labels = np.asarray(log_joint), np.asarray(labels)
    known = labels >= 0
    if not known.all():
        scores, labels = scores[known], labels[known]
    fits = scores.ndim == 2 and len(scores) and labels.max() < scores.shape[1]
    if not fits or not np.isfinite([scores.min(), scores.max()]).all():
        raise ValueError("need finite log-densities (N, K) and at least one label in 0..K-1")
    return scores, labels


def _blocks(scores: FloatArray, size: int = _BLOCK, *, shift: bool = True) -> Iterator[tuple[slice, Floats]]:
    """Yield slices of the rows `(N, K)`, and these rows as float64, by default minus their largest entry.

    Whole tables of thousands of classes would take all memory, and these blocks fit into the cache.
    """
    for part in iterate_batches(len(scores), max(1, size // scores.shape[1])):
        block = scores[part].astype(np.float64)
        yield part, block - block.max(1, keepdims=True) if shift else block


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of similar confidence."""

    low: float  # lower end, which belongs to the first bin only
    high: float  # upper end, which belongs to the bin
    count: int
    confidence: float | None  # mean confidence of the rows, None in an empty bin
    accuracy: float | None  # share of correct predictions, None in an empty bin


def reliability_table(
    confidence: FloatArray, correct: Bools, *, bins: int = 15, binning: Literal["width", "mass"] = "width"
) -> list[ReliabilityBin]:
    """Group rows by confidence and compare the mean confidence of each group with its accuracy.

    `confidence` is the probability of the predicted class `(N,)`, `correct` the mask of the correct
    predictions. With `width` the groups have equal width on 0..1 (Guo et al., 2017), with `mass` equally many
    rows, equal confidences in their order (Nixon et al., 2019).
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    if binning == "width":
        edges = np.linspace(0, 1, bins + 1)
        bin_of_row = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
        groups = [np.flatnonzero(bin_of_row == index) for index in range(bins)]
        limits = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    else:
        groups = np.array_split(np.argsort(confidence, kind="stable"), min(bins, len(confidence)))
        limits = [(float(confidence[group[0]]), float(confidence[group[-1]])) for group in groups]
    return [
        ReliabilityBin(low, high, len(group), float(confidence[group].mean()), float(correct[group].mean()))
        if len(group)
        else ReliabilityBin(low, high, 0, None, None)
        for group, (low, high) in zip(groups, limits, strict=True)
    ]


def calibration_error(table: Sequence[ReliabilityBin]) -> float:
    r"""Compute the expected calibration error (Naeini et al., 2015; Guo et al., 2017, eq. 3).

    .. math:: \sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|
    """
    gaps = [
        row.count * abs(row.accuracy - row.confidence)
        for row in table
        if row.accuracy is not None and row.confidence is not None
    ]
    return float(sum(gaps) / sum(row.count for row in table))

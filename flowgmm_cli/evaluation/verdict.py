"""The verdict on a model beside simple methods: which of them is right on more rows, and is it chance?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowgmm_cli.data.array_types import Bools, FloatArray, Floats, IntArray, Ints
from flowgmm_cli.evaluation.intervals import LEVEL, compare_accuracies, compare_means
from flowgmm_cli.formatting import method_name, pluralise

MODEL = "flowgmm"
_DRAWS = 9999


@dataclass(frozen=True)
class Outcome:
    """A method's answers for labelled rows that it has not seen, in the same order for all methods."""

    correct: Bools  # mask of the correct predictions `(N,)`
    nll: Floats  # negative log-probability of the true class `(N,)`

    @classmethod
    def measure(cls, parts: Sequence[tuple[FloatArray, IntArray]]) -> Outcome:
        """Compare log-probabilities `(n, K)` with labels `(n,)`, part after part."""
        return cls(
            np.concatenate([np.empty(0, dtype=bool), *(p.argmax(1) == labels for p, labels in parts)]),
            np.concatenate([np.empty(0), *(-p[np.arange(len(p)), labels] for p, labels in parts)]),
        )


@dataclass(frozen=True)
class Verdict:
    """The model against the simple method with the most correct predictions, the rival."""

    best: str  # the rival if it is better by more than chance, else `flowgmm`, which is trained already
    rival: str  # its name
    n: int  # number of rows
    difference: float  # accuracy of the rival minus that of the model, paired
    interval: tuple[float, float]  # its confidence interval, low and high
    p: float  # probability of a difference as large by chance; see `judge`
    decided: bool  # true if chance alone rarely makes such a difference
    text: str  # the verdict in a sentence


def judge(model: Outcome, methods: Mapping[str, Outcome]) -> Verdict:
    """Compare a model with the best of some simple methods, on the same rows.

    If the model is ahead, p is that of McNemar's exact test against the rival, for which the choice of the
    best method is an advantage. If the rival is ahead, its choice must be accounted for: p is that of the
    largest difference among all methods, by `max_test`.
    """
    names = sorted(methods, key=lambda name: (-methods[name].correct.sum(), methods[name].nll.mean()))
    rival, n = names[0], len(model.correct)
    paired = compare_accuracies(model.correct, methods[rival].correct)
    p = float(paired.p_value or 0.0)
    if paired.difference > 0:
        p = max_test(np.stack([methods[name].correct * 1 - model.correct * 1 for name in names], axis=1))
    decided = p < 1 - LEVEL
    best = rival if decided and paired.difference > 0 else MODEL
    text = _describe(model, methods[rival], method_name(rival), len(names), p)
    return Verdict(best, rival, n, paired.difference, (paired.low, paired.high), p, decided, text)


def max_test(differences: Ints) -> float:
    r"""Return the p-value of the first of several paired comparisons, accounting for all of them.

    The statistic of a comparison is :math:`|\sum_n d_n| / \sqrt{\sum_n d_n^2}`. Under the hypothesis of no
    difference each row may as well have the opposite signs, in all comparisons at once, so the largest
    statistic of random signs is its distribution (Westfall and Young, 1993; with a single comparison this is
    McNemar's test).

    `differences` are -1, 0 or 1 for each row and comparison, `(N, comparisons)`.
    """
    patterns, counts = np.unique(differences, axis=0, return_counts=True)
    scale = np.sqrt(np.maximum(np.abs(differences).sum(0), 1))
    observed = abs(differences[:, 0].sum()) / scale[0]
    # the sum of a pattern's random signs is binomial
    ahead = np.random.default_rng(0).binomial(counts, 0.5, size=(_DRAWS, len(counts)))
    largest = (np.abs((2 * ahead - counts) @ patterns) / scale).max(1)
    return float((1 + (largest >= observed - 1e-9).sum()) / (_DRAWS + 1))


def _describe(model: Outcome, rival: Outcome, name: str, methods: int, p: float) -> str:
    n, right, other = len(model.correct), int(model.correct.sum()), int(rival.correct.sum())
    more = pluralise(abs(other - right), "row")
    among = f", the best of {methods} simpler methods" if methods > 1 else ""
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.2g}"
    if p >= 1 - LEVEL:
        counts = f"{name}{among}{',' if among else ''} on {other:,}"
        text = f"no difference can be seen: of {n:,} rows {MODEL} is right on {right:,}, {counts} ({chance})"
    elif other > right:
        text = f"{name}{among}{',' if among else ''} is right on {more} more of {n:,} than {MODEL} ({chance})"
    else:
        text = f"{MODEL} is right on {more} more of {n:,} than {name}{among} ({chance})"
    if n < 2 or not compare_means(model.nll, rival.nll).significant:
        return text
    losses = {MODEL: float(model.nll.mean()), name: float(rival.nll.mean())}
    lower, higher = sorted(losses, key=losses.__getitem__)
    return f"{text}; {lower} has the lower log loss, {losses[lower]:.3f} against {losses[higher]:.3f}"

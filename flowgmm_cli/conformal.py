"""Guarantees from labels that a model has not seen: sets of classes with a coverage, and abstention.

The labels are those of rows that a fold or a validation split held out. New rows of the same origin have the
same distribution of probabilities, so a share `coverage` of them has at least the probability for its class
that this share of the held-out rows has (split conformal prediction; Sadinle, Lei and Wasserman, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from flowgmm_cli.errors import DataError, UsageError
from flowgmm_cli.messages import join_some

Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-9
_MAX_THRESHOLD = 0.75  # a likelier class is in every set: near 1, probabilities of few labels are too rough
_MAX_LISTED = 5  # classes in a message


@dataclass(frozen=True)
class HeldOutLabels:
    """Labelled rows, each with the probabilities of a model that has not seen its label."""

    p_true: Floats  # calibrated probability of the true class, among the classes, `(n,)`
    labels: npt.NDArray[np.int64]  # true classes `(n,)`
    confidence: Floats  # probability of the predicted class, beside unknown kinds, `(n,)`
    correct: npt.NDArray[np.bool_]  # mask of correct predictions `(n,)`
    exact: npt.NDArray[np.bool_]  # mask of the rows that the final model predicted, not that of a fold

    def __len__(self) -> int:
        return len(self.labels)

    @classmethod
    def collect(
        cls, log_probabilities: Floats, labels: npt.NDArray[np.int64], p_unknown: Floats, *, exact: bool
    ) -> Self:
        """Collect rows from calibrated `log p(k | x)` `(n, K)`, true classes, and `p_unknown` `(n,)`."""
        best = log_probabilities.argmax(1)
        confidence = np.exp(log_probabilities.max(1)) * (1 - p_unknown)
        p_true = np.exp(log_probabilities[np.arange(len(labels)), labels])
        p_true, confidence = np.clip([p_true, confidence], 0, 1).astype(np.float64)  # rounding may exceed 1
        return cls(p_true, labels, confidence, best == labels, np.full(len(labels), exact))

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[Any]], classes: int) -> Self:
        """Build from stored arrays. Raises `LookupError`, `TypeError` or `ValueError` if they do not fit."""
        rows = cls(**arrays)
        shapes = {array.shape for array in arrays.values()}
        kinds = [array.dtype.kind for array in vars(rows).values()]
        shares = np.concatenate([rows.p_true, rows.confidence])
        if (
            shapes != {(len(rows),)}
            or kinds != list("fifbb")
            or not ((rows.labels >= 0) & (rows.labels < classes)).all()
            or not ((shares >= 0) & (shares <= 1)).all()  # nor NaN
        ):
            raise ValueError("the arrays of held-out labels do not fit together")
        return rows

    @classmethod
    def concatenate(cls, parts: Sequence[HeldOutLabels]) -> Self:
        """Concatenate the rows of any number of parts, also of no part."""
        empty = cls(np.empty(0), np.empty(0, np.int64), np.empty(0), *(np.empty(0, np.bool_),) * 2)
        names = [field.name for field in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in (empty, *parts)]) for name in names))

    def class_thresholds(self, coverage: float, class_names: Sequence[str], *, by_class: bool) -> Thresholds:
        """Compute the smallest probability of each class in a set, for a coverage over all rows or by class.

        Raises:
            DataError: the labels are too few.
            UsageError: the coverage is not between 0 and 1.
        """
        if not 0 < coverage < 1:
            raise UsageError(f"the coverage is {coverage}, it must lie between 0 and 1", hint="0.9")
        needed = math.ceil(coverage / (1 - coverage) - _ROUNDING)
        masks = [self.labels == k for k in range(len(class_names))] if by_class else [self.labels >= 0]
        groups = [self.p_true[mask] for mask in masks]
        ranks = [self._rank(mask, coverage) for mask in masks]
        most = max(map(len, groups))
        if most < needed:
            rows = f"its class with the most has {most:,}" if by_class else f"there are {most:,}"
            raise DataError(
                f"a coverage of {coverage:g} needs {needed:,} labels{' of a class' * by_class} that the "
                f"training held out, and {rows}",
                hint="label more rows and train again"
                + (f", or ask for {math.floor(100 * most / (most + 1)) / 100:g} at most" if most else ""),
            )
        few = [
            name for name, part in zip(class_names, groups, strict=False) if by_class and len(part) < needed
        ]
        values = [
            min(np.sort(part)[len(part) - rank], _MAX_THRESHOLD) if len(part) >= needed else 0.0
            for part, rank in zip(groups, ranks, strict=True)
        ]
        usable = min(
            (len(part), rank) for part, rank in zip(groups, ranks, strict=True) if len(part) >= needed
        )
        return Thresholds(
            coverage,
            by_class,
            np.broadcast_to(values, len(class_names)).copy(),
            tuple(few),
            needed,
            len(self),
            _interval(*usable),
        )

    def _rank(self, mask: npt.NDArray[np.bool_], coverage: float) -> int:
        """Return the number of some rows that the threshold covers.

        For rows of the final model a new row counts as one more. The models of folds have seen fewer labels
        than the final one, which gives a new row a higher probability: that makes up for it.
        """
        n = int(mask.sum())
        return math.ceil((n + self.exact[mask].mean() if n else 0) * coverage - _ROUNDING)

    def count_answers(self, min_confidence: float) -> tuple[int, int]:
        """Return the number of rows with at least this confidence, and of right predictions among them."""
        answered = self.confidence >= min_confidence
        return int(answered.sum()), int((answered & self.correct).sum())


@dataclass(frozen=True)
class Thresholds:
    """Smallest probabilities of classes in a set, for a coverage."""

    coverage: float
    by_class: bool
    values: Floats  # by class, `(K,)`; 0 for a class that is in every set
    few: tuple[str, ...]  # classes with too few labels, which are in every set
    needed: int  # labels that the coverage needs, of each class if it is by class
    labels: int  # number of held-out labels
    interval: tuple[float, float]  # 90 % of label draws give such sets a coverage in it; of the rarest class

    def describe_few(self) -> str:
        """Describe the classes with too few labels; empty without any."""
        if not self.few:
            return ""
        names = join_some((f"`{name}`" for name in self.few), len(self.few), _MAX_LISTED)
        return (
            f"a coverage of {self.coverage:g} by class needs {self.needed:,} held-out labels of each; these "
            f"classes have fewer, so they are in every set: {names}; label more rows of them and train again"
        )

    def sets(self, log_probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
        """Return a mask of the classes in the set of each row, from `log p(k | x)` `(N, K)`; none for NaN."""
        return np.asarray(np.exp(log_probabilities) >= self.values)


def _interval(n: int, rank: int) -> tuple[float, float]:
    """Return the 90 % interval of the coverage over draws of n labels, a Beta distribution (Vovk, 2012)."""
    from scipy.special import betaincinv

    low, high = betaincinv(rank, n + 1 - rank, [0.05, 0.95])
    return float(low), float(high)


def risk_coverage(confidence: Floats, correct: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return shares of answered rows and their error rates, `(n,)`, the most confident rows first."""
    order = np.argsort(-confidence, kind="stable")
    count = np.arange(1, len(order) + 1)
    return count / max(len(order), 1), np.cumsum(~correct[order]) / count

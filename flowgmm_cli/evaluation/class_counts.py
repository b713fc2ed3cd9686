"""Counts of rows by true and predicted class, without a matrix of all pairs of classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.array_types import Floats, IntArray
from flowgmm_cli.evaluation.intervals import Interval, percentile_interval

BLOCK = 2**22
"""Entries of a temporary array; 32 MiB."""
_RESAMPLES = 1000  # bootstrap draws behind the intervals of balanced accuracy and macro-F1
_MAX_DRAWS = 2**27  # counts of all resamples, some seconds


@dataclass(frozen=True)
class ClassCounts:
    """Row and column sums and diagonals of several confusion matrices, each int64 `(M, K)`."""

    correct: IntArray
    support: IntArray
    predicted: IntArray

    @classmethod
    def from_cells(cls, cells: IntArray, counts: IntArray, classes: int) -> ClassCounts:
        """Add up cells at the flat positions `cells` `(C,)` with `counts` `(M, C)`; all others are 0."""
        true, predicted = np.divmod(cells, classes)
        shape = (len(counts), classes)
        offsets = classes * np.arange(len(counts))[:, None]

        def add_up(groups: IntArray, counts: IntArray) -> IntArray:
            total = np.bincount((offsets + groups).ravel(), counts.ravel(), minlength=math.prod(shape))
            return total.astype(np.int64).reshape(shape)

        right = true == predicted
        return cls(add_up(true[right], counts[:, right]), add_up(true, counts), add_up(predicted, counts))

    def precision_recall_f1(self) -> tuple[Floats, Floats, Floats]:
        """Compute the metrics of each class, `(M, K)`; 0 / 0 is 0."""
        return (
            self.correct / np.maximum(self.predicted, 1),
            self.correct / np.maximum(self.support, 1),
            2 * self.correct / np.maximum(self.predicted + self.support, 1),
        )

    def averages(self) -> dict[str, Floats]:
        """Average over classes, `(M,)` by metric.

        The balanced accuracy is the mean recall of the classes that occur, the macro-F1 the mean F1 of the
        classes that occur or are predicted, as in scikit-learn, which takes one matrix at a time.
        """
        _, recall, f1 = self.precision_recall_f1()
        occur, count = self.support > 0, self.support + self.predicted > 0
        return {
            "balanced_accuracy": np.asarray(recall.sum(-1) / np.maximum(occur.sum(-1), 1)),
            "macro_f1": np.asarray(f1.sum(-1) / np.maximum(count.sum(-1), 1)),
        }


def bootstrap_averages(cells: IntArray, counts: IntArray, classes: int) -> dict[str, Interval]:
    """Compute confidence intervals of `ClassCounts.averages`; none with too many cells.

    `cells` are flat positions in the confusion matrix, ascending, with the numbers `counts` of rows, `(C,)`.
    """
    if len(cells) * _RESAMPLES > _MAX_DRAWS:
        return {}
    # the last cell takes all remaining rows, so it must be that of the matrix
    if cells[-1] != classes**2 - 1:
        cells, counts = np.append(cells, classes**2 - 1), np.append(counts, 0)
    # resampling rows draws the cells from a multinomial, at a cost that does not depend on the number of rows
    generator, shares, n = np.random.default_rng(0), counts / counts.sum(), int(counts.sum())
    parts = []
    for part in iterate_batches(_RESAMPLES, max(1, BLOCK // max(classes, len(cells)))):
        draws = generator.multinomial(n, shares, size=part.stop - part.start)
        parts.append(ClassCounts.from_cells(cells, draws, classes).averages())
    return {name: percentile_interval(np.concatenate([part[name] for part in parts])) for name in parts[0]}

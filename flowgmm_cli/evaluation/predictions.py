"""Predictions for single test rows, stored so that two runs can be compared row by row without the data."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import Column, Rows
from flowgmm_cli.data.fingerprint import row_digests
from flowgmm_cli.evaluation.metrics import LEVEL, FloatArray, wilson_interval
from flowgmm_cli.files import write_bytes

FORMAT = "flowgmm/outcomes/1"


@dataclass(frozen=True)
class StoredPredictions:
    """Labelled rows with their predictions."""

    digests: npt.NDArray[np.uint8]  # of the input columns, uint8 `(N, 16)`
    labels: npt.NDArray[np.int64]  # true classes, int64 `(N,)`
    predictions: npt.NDArray[np.int64]  # predicted classes, int64 `(N,)`
    log_probability: npt.NDArray[np.float64]  # of the true class, float64 `(N,)`
    class_names: tuple[str, ...]  # index -> name

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Mask of the correct predictions, `(N,)`."""
        return np.equal(self.predictions, self.labels)

    def save(self, path: Path) -> None:
        """Write an npz file."""
        file = io.BytesIO()
        names = [name.encode("utf-8", "surrogatepass") for name in self.class_names]
        np.savez_compressed(
            file,
            format=np.frombuffer(FORMAT.encode(), dtype=np.uint8),
            digests=self.digests,
            labels=self.labels.astype(np.int32),
            predictions=self.predictions.astype(np.int32),
            log_probability=self.log_probability,
            names=np.frombuffer(b"".join(names), dtype=np.uint8),
            lengths=np.array([len(name) for name in names], dtype=np.int64),
        )
        write_bytes(path, file.getvalue())

    @classmethod
    def load(cls, path: Path) -> StoredPredictions | None:
        """Read the file that `save` wrote; None if it is missing or damaged."""
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
                if file["format"].tobytes().decode() != FORMAT:
                    return None
                names = np.split(file["names"], np.cumsum(file["lengths"])[:-1])
                return cls(
                    file["digests"],
                    file["labels"].astype(np.int64),
                    file["predictions"].astype(np.int64),
                    file["log_probability"],
                    tuple(name.tobytes().decode("utf-8", "surrogatepass") for name in names),
                )
        except (OSError, ValueError, KeyError, EOFError, IndexError, BadZipFile):
            return None


def collect_predictions(
    rows: Rows,
    columns: tuple[Column, ...],
    log_probabilities: FloatArray,
    class_names: tuple[str, ...],
) -> StoredPredictions:
    """Collect the predictions for the labelled rows among N `rows` as their source gives them.

    `log_probabilities` are calibrated `log p(k | x)`, `(N, K)`.
    """
    known = rows.labels >= 0
    labelled, log_p = rows.take(known), log_probabilities[known]
    digests = b"".join(row_digests(labelled, columns))
    return StoredPredictions(
        np.frombuffer(digests, dtype=np.uint8).reshape(len(labelled), -1),
        labelled.labels,
        log_p.argmax(1),
        log_p[np.arange(len(labelled)), labelled.labels].astype(np.float64),
        class_names,
    )


def match_rows(
    first: StoredPredictions, second: StoredPredictions
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the positions of rows with equal contents and true class in both, in order of `first`.

    Among equal rows the first is matched with the first, the second with the second.
    """
    places = {key: place for place, key in enumerate(_row_keys(second))}
    pairs = [(place, places[key]) for place, key in enumerate(_row_keys(first)) if key in places]
    left, right = np.array(pairs, dtype=np.intp).reshape(-1, 2).T
    return left, right


def _row_keys(stored: StoredPredictions) -> Iterator[tuple[bytes, str, int]]:
    """Yield contents and class of each row, with the number of equal rows before it."""
    seen: Counter[tuple[bytes, str]] = Counter()
    for digest, label in zip(stored.digests, stored.labels, strict=True):
        key = (digest.tobytes(), stored.class_names[label])
        yield (*key, seen[key])
        seen[key] += 1


@dataclass(frozen=True)
class Difference:
    """Second minus first."""

    difference: float
    low: float  # low, high: its confidence interval
    high: float
    level: float = LEVEL  # coverage of the interval
    p_value: float | None = None  # two-sided p-value of the hypothesis of no difference; None without a test

    @property
    def significant(self) -> bool:
        """True if the interval does not contain 0."""
        return self.low > 0 or self.high < 0


def compare_accuracies(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Difference:
    """Compare the accuracies of two models on the same rows, by masks of their correct predictions `(N,)`.

    The interval is Wald's with half a row added to each of the four cells (Agresti and Min, 2005), the
    p-value McNemar's exact one, which rests on the rows that only one of the models gets right.
    """
    from scipy.stats import binomtest

    n = len(first)
    lost, won = int((first & ~second).sum()), int((~first & second).sum())
    p_value = float(binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0
    b, c, total = lost + 0.5, won + 0.5, n + 2.0
    centre = (c - b) / total
    half = NormalDist().inv_cdf(0.5 + LEVEL / 2) * math.sqrt(b + c - (c - b) ** 2 / total) / total
    return Difference((won - lost) / n, max(centre - half, -1.0), min(centre + half, 1.0), p_value=p_value)


def compare_means(first: FloatArray, second: FloatArray) -> Difference:
    """Compare the means of a quantity of the same rows `(N,)`, N > 1, by the t test and its interval."""
    from scipy.stats import ttest_1samp

    gap = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    value = float(gap.mean())
    if gap.min() == gap.max():  # no variance
        return Difference(value, value, value, p_value=float(value == 0))
    test = ttest_1samp(gap, 0.0)
    low, high = test.confidence_interval(LEVEL)
    return Difference(value, float(low), float(high), p_value=float(test.pvalue))


def compare_independent_accuracies(
    correct_first: int, n_first: int, correct_second: int, n_second: int
) -> Difference:
    """Compare accuracies on different rows by Newcombe's hybrid of Wilson intervals (1998, method 10)."""
    p, q = correct_first / n_first, correct_second / n_second
    first = wilson_interval(correct_first, n_first)
    second = wilson_interval(correct_second, n_second)
    low = (q - p) - math.hypot(q - second.low, first.high - p)
    high = (q - p) + math.hypot(second.high - q, p - first.low)
    return Difference(q - p, max(low, -1.0), min(high, 1.0))

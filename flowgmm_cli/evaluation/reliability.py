"""How far stated confidence can be trusted: reliability tables and expected calibration error."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ReliabilityBin:
    """Rows of similar confidence.

    Attributes:
        low: confidences in the bin lie above this (in the first bin: from it on) ...
        high: ... up to this.
        count: number of rows.
        confidence: mean confidence of the rows, None in an empty bin.
        accuracy: share of rows whose prediction is right, None in an empty bin.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def reliability_table(
    confidence: FloatArray,
    correct: BoolArray,
    *,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
) -> list[ReliabilityBin]:
    """Divide rows by confidence and compare each group's mean confidence with its accuracy.

    Args:
        confidence: probability of the predicted class, `(N,)`, in 0..1.
        correct: whether the prediction is right, `(N,)`.
        bins: number of groups.
        binning: `width`, groups of equal width on 0..1 (Guo et al., 2017), or `mass`, groups of equally many
            rows, equal confidences divided as they come (Nixon et al., 2019).
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    correct = np.asarray(correct, dtype=bool)
    if binning == "width":
        edges = np.linspace(0, 1, bins + 1)
        place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
        groups = [np.flatnonzero(place == index) for index in range(bins)]
        limits = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    else:
        groups = np.array_split(np.argsort(confidence, kind="stable"), bins)
        groups = [group for group in groups if len(group)]
        limits = [(float(confidence[group[0]]), float(confidence[group[-1]])) for group in groups]
    return [
        ReliabilityBin(
            low=low,
            high=high,
            count=len(group),
            confidence=float(confidence[group].mean()) if len(group) else None,
            accuracy=float(correct[group].mean()) if len(group) else None,
        )
        for group, (low, high) in zip(groups, limits, strict=True)
    ]


def expected_calibration_error(
    confidence: FloatArray,
    correct: BoolArray,
    *,
    bins: int = 15,
    binning: Literal["width", "mass"] = "width",
) -> float:
    r"""Mean gap of confidence and accuracy, :math:`\sum_b \frac{n_b}{N} |\mathrm{acc}_b - \mathrm{conf}_b|`.

    (Naeini et al., 2015; Guo et al., 2017, eq. 3.) Arguments as in `reliability_table`.
    """
    table = reliability_table(confidence, correct, bins=bins, binning=binning)
    gaps = [
        row.count * abs(row.accuracy - row.confidence)
        for row in table
        if row.accuracy is not None and row.confidence is not None
    ]
    return float(sum(gaps) / len(confidence))

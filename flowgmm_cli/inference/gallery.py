"""Selection of rows for galleries: typical, odd and uncertain rows of a class, and rows by score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import entropy

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.inference.pseudo_ood import transforms_log_det
from flowgmm_cli.model import Model

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Places = npt.NDArray[np.int64]

QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Quantiles of a score around which rows are shown."""


@dataclass(frozen=True)
class RowStatistics:
    """Class, density and uncertainty of rows.

    Attributes:
        classes: class of each row, int64 `(N,)`: its label, or the predicted class if it has none.
        predicted: int64 `(N,)`.
        log_density: `log p(x | k)` of that class in nats, including the transforms' log-determinant, `(N,)`.
        entropy: entropy of the calibrated posterior in nats, `(N,)`.
    """

    classes: Places
    predicted: Places
    log_density: Floats
    entropy: Floats


def compute_row_statistics(
    model: Model, rows: ScoreInputs, labels: npt.NDArray[np.integer[Any]]
) -> RowStatistics:
    """Compute the statistics of rows with labels `(N,)`, -1 where unknown."""
    log_posterior = rows.log_posterior.numpy()
    predicted = log_posterior.argmax(1)
    classes = np.where(labels >= 0, labels, predicted)
    log_weights = [part.mixture.log_weights.detach().double().cpu() for part in model.parts]
    log_prior = torch.stack(log_weights).mean(0).numpy()
    log_joint = rows.latents.class_log_prob.double().numpy()[np.arange(len(rows)), classes]
    log_det = rows.latents.log_det.double() + transforms_log_det(rows)
    log_density = log_joint + log_det.numpy() - log_prior[classes]
    return RowStatistics(classes, predicted, log_density, entropy(np.exp(log_posterior), axis=1))


def select_extremes(statistics: RowStatistics, class_index: int, count: int) -> tuple[Places, Places]:
    """Return at most `count` rows of a class with its highest density, and as many with the lowest.

    The highest and the lowest density come first; no row is in both.
    """
    rows = np.flatnonzero((statistics.classes == class_index) & np.isfinite(statistics.log_density))
    order = rows[np.argsort(-statistics.log_density[rows], kind="stable")]
    typical = order[: min(count, -(-len(order) // 2))]
    return typical, order[len(typical) :][::-1][:count]


def select_uncertain(statistics: RowStatistics, count: int) -> Places:
    """Return the rows of largest entropy, largest first."""
    return np.argsort(-statistics.entropy, kind="stable")[:count]


def positions_by_quantile(values: Floats, count: int) -> list[Places]:
    """Return up to `count` positions of values around each of `QUANTILES`, ascending and disjoint.

    >>> [group.tolist() for group in positions_by_quantile(np.array([5.0, 1, 4, 2, 3, 0]), 1)]
    [[5], [1], [3], [2], [0]]
    """
    order = np.argsort(values, kind="stable")
    count = min(count, len(order) // len(QUANTILES))
    starts = [round(share * (len(order) - count)) for share in QUANTILES]
    return [order[start : start + count] for start in starts] if count else [order]

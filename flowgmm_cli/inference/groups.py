"""Groups of rows that belong to none of the classes; their number is found from the widths of the classes.

Rows are divided by k-means in the space of the flow's inputs. These rows alone do not tell how fine the
division should be. The known classes do: groups should be about as wide as classes are (compare the
choice of the number of classes from labelled ones by Vaze et al., 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from flowgmm_cli.data.array_types import Bools, FloatArray, Floats, Ints
from flowgmm_cli.mixture.clusters import fit_kmeans

MIN_ROWS = 5
"""Rows of the smallest group."""
TOLERANCE = 0.25  # by which the mean square radius of a group may exceed that of the classes
_ITERATIONS = 10  # of k-means beside the classes
_MAX_GROUPS = 500
_MIN_CLASS_ROWS = 3  # that give a class a centre


@dataclass(frozen=True)
class Groups:
    """Groups of rows, the largest first.

    Attributes:
        labels: group of each row from 0, -1 for none, int64 `(N,)`.
        distances: of each row to the centre of its group, `(N,)`; NaN without a group.
        centres: means of the groups `(G, D)`.
    """

    labels: Ints
    distances: Floats
    centres: FloatArray

    def __len__(self) -> int:
        return len(self.centres)

    def members(self, group: int) -> Ints:
        """Return the positions of the rows of a group, the most typical first."""
        rows = np.flatnonzero(self.labels == group)
        return rows[np.argsort(self.distances[rows], kind="stable")]


def candidate_threshold(p_unknown: Floats, share: float) -> float:
    """Return the probability that the estimated `share` of unlabelled rows exceeds, from 0.1 to 0.5."""
    known = p_unknown[np.isfinite(p_unknown)]
    return float(np.clip(np.quantile(known, 1 - share), 0.1, 0.5)) if len(known) else 0.5


def find_groups(
    x: FloatArray,
    candidates: Bools,
    classes: Ints,
    *,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Groups:
    """Divide candidates into groups that are about as wide as the classes.

    A candidate that is nearer to the mean of a class than to that of any group is in no group.

    Args:
        x: rows `(N, D)`, finite.
        candidates: mask of the rows to divide, `(N,)`.
        classes: class of each other row `(N,)`, known or predicted; -1 for rows that count for no class.
        seed: of k-means.
        progress: called with each number of groups that is tried.
    """
    if not candidates.any():
        return Groups(np.full(len(x), -1), np.full(len(x), np.nan), x[:0])
    x = x.astype(np.float32)
    rows, known = x[candidates], (classes >= 0) & ~candidates
    means, radius = _class_widths(x[known], classes[known])
    fits: dict[int, tuple[Ints, FloatArray, float]] = {}

    def is_wide(count: int) -> bool:
        """Fit some groups and return True if they are wider than the classes."""
        if progress:
            progress(count)
        fits[count] = _fit(rows, means, count, seed)
        width = fits[count][2]
        return width > radius * (1 + TOLERANCE / math.sqrt(count))  # as the mean of so many widths varies

    low, high = 0, 1
    most = max(1, min(_MAX_GROUPS, len(rows) // MIN_ROWS))
    while is_wide(high) and high < most:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if is_wide(middle) else (low, middle)
    assigned, centres, _ = fits[high]
    return _order(x, candidates, assigned, centres)


def _class_widths(x: FloatArray, classes: Ints) -> tuple[FloatArray, float]:
    """Return the means `(K, D)` of classes with enough rows and the mean square distance to them."""
    means, squares = [], []
    for index in np.unique(classes):
        members = x[classes == index]
        if len(members) >= _MIN_CLASS_ROWS:
            means.append(members.mean(0))
            squares.append(((members - means[-1]) ** 2).sum(1))
    if not means:
        return np.empty((0, x.shape[1]), np.float32), 0.0
    return np.stack(means), float(np.concatenate(squares).mean())


def _fit(rows: FloatArray, means: FloatArray, count: int, seed: int) -> tuple[Ints, FloatArray, float]:
    """Fit k-means with the means of the classes as further, fixed centres.

    Returns:
        The group of each row, -1 for a class; the centres; the mean square distance to the nearest centre,
        that of a class included: rows far from all classes must not count for one.
    """
    from scipy import sparse

    generator = torch.Generator().manual_seed(seed)
    centres = fit_kmeans(rows, count, generator).cluster_centers_.astype(np.float32)
    count = len(centres)
    nearest = assigned = np.full(len(rows), -1)
    for _ in range(_ITERATIONS):
        every = np.concatenate([centres, means])
        nearest = ((every**2).sum(1) - 2 * rows @ every.T).argmin(1)
        previous, assigned = assigned, np.where(nearest < count, nearest, -1)
        if np.array_equal(previous, assigned):
            break
        inside = np.flatnonzero(assigned >= 0)
        entries = np.ones(len(inside), np.float32), (assigned[inside], inside)
        membership = sparse.csr_array(entries, shape=(count, len(rows)))
        sizes = np.bincount(assigned[inside], minlength=count)[:, None]
        centres = np.where(sizes > 0, membership @ rows / np.maximum(sizes, 1), centres)
    squares = ((rows - np.concatenate([centres, means])[nearest]) ** 2).sum(1)
    return assigned, centres, float(squares.mean())


def _order(x: FloatArray, candidates: Bools, assigned: Ints, centres: FloatArray) -> Groups:
    """Number the groups by size, without small ones."""
    sizes = np.bincount(assigned[assigned >= 0], minlength=len(centres))
    order = [group for group in np.argsort(-sizes, kind="stable") if sizes[group] >= MIN_ROWS]
    number = np.full(len(centres) + 1, -1)
    number[order] = np.arange(len(order))
    labels, distances = np.full(len(x), -1), np.full(len(x), np.nan)
    labels[candidates] = number[assigned]
    inside = labels >= 0
    kept = centres[order]
    distances[inside] = np.linalg.norm(x[inside] - kept[labels[inside]], axis=1)
    return Groups(labels, distances, kept)

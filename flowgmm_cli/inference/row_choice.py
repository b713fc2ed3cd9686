"""Rows to label next: typical rows of groups without labels, and rows of which a model is in doubt.

With few labels the most typical row of each group teaches most (TypiClust, Hacohen et al., 2022); with more
labels rows between classes do (Lewis and Gale, 1994). Groups are those of k-means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from flowgmm_cli.baselines.label_spreading import MIN_COSINE_FEATURES
from flowgmm_cli.data.array_types import Bools, FloatArray, Floats, Ints
from flowgmm_cli.mixture.clusters import fit_kmeans, single_thread_no_warnings
from flowgmm_cli.neighbours import TINY

QUANTILE = 0.01
"""Share of the pairs of rows that are nearer to each other than any two suggested rows."""
FIRST_LABELS = 10.0
"""Labels for each class up to which all suggested rows are typical."""
MAX_DOUBTFUL = 0.5
"""Largest share of doubtful rows."""
_MAX_GROUPS = 500
_KMEANS_OPERATIONS = 2e8  # with 100 groups of texts some 5,000 rows
_SAMPLE = 2000  # rows whose pairwise distances are computed


@dataclass(frozen=True)
class Pick:
    """A row to label: the most typical of a group, or a doubtful one.

    Attributes:
        place: position of the row.
        rows: number of rows in its group, 0 for a doubtful row.
        labels: number of labelled rows in its group.
    """

    place: int
    rows: int = 0
    labels: int = 0


def choose_rows(
    x: FloatArray,
    labels: Ints,
    count: int,
    *,
    doubt: Floats | None = None,
    classes: Ints | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Pick]:
    """Choose unlabelled rows to label next; fewer than `count` if all others are near duplicates of these.

    Args:
        x: vectors of all rows, labelled and unlabelled `(N, D)`; a row with NaN is never chosen.
        labels: class of each row `(N,)`, -1 without a label.
        count: number of rows.
        doubt: of each row `(N,)`, the higher the less certain its class; None without a model.
        classes: predicted class of each row `(N,)`; doubtful rows are taken from all classes in turn.
        seed: of k-means and samples.
        progress: called with the number of chosen rows and `count`.
    """
    x, labels = np.asarray(x, np.float32), np.asarray(labels)
    if x.shape[1] >= MIN_COSINE_FEATURES:  # the direction of a long vector says more than its length
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY)
    usable = np.isfinite(x).all(axis=1)
    picker = _Picker(x, (labels < 0) & usable, seed, lambda done: progress(done, count))
    doubtful = 0 if doubt is None else round(count * doubtful_share(labels))
    _pick_typical(picker, np.flatnonzero(usable), labels, count - doubtful, seed)
    if doubt is not None and classes is not None:
        kinds = [np.flatnonzero(classes == kind) for kind in np.unique(classes[usable])]
        queue = [rows[np.argsort(-doubt[rows], kind="stable")] for rows in kinds]
        while queue and len(picker.picks) < count:
            queue = [rows for rows in queue if len(picker.picks) < count and picker.pick(rows)]
    return picker.picks


def doubtful_share(labels: Ints) -> float:
    """Return the share of doubtful rows, which grows with the number of labels for each class."""
    known = labels[labels >= 0]
    each = len(known) / max(1, len(np.unique(known)))
    return MAX_DOUBTFUL * float(np.clip(each / FIRST_LABELS - 1, 0, 1))


def pair_distance(x: FloatArray, rng: np.random.Generator) -> float:
    """Return the distance that the share `QUANTILE` of the pairs of rows are below; 0 for a single row."""
    from scipy.spatial.distance import pdist

    sample = x if len(x) <= _SAMPLE else x[rng.choice(len(x), _SAMPLE, replace=False)]
    return float(np.quantile(pdist(sample), QUANTILE)) if len(sample) > 1 else 0.0


class _Picker:
    """Pick free rows, none too near to another."""

    def __init__(self, x: FloatArray, free: Bools, seed: int, progress: Callable[[int], None]) -> None:
        self.picks: list[Pick] = []
        self.free = free.copy()
        self._x, self._squares, self._progress = x, (x**2).sum(1), progress
        self._distance = pair_distance(x[free], np.random.default_rng(seed))

    def pick(self, candidates: Ints, rows: int = 0, labels: int = 0) -> bool:
        """Pick the first free row of the candidates, and return True if there is any."""
        usable = candidates[self.free[candidates]]
        if not len(usable):
            return False
        place = int(usable[0])
        squares = self._squares + self._squares[place] - 2 * self._x @ self._x[place]
        self.free &= squares >= self._distance**2  # False for NaN, too
        self.free[place] = False
        self.picks.append(Pick(place, rows, labels))
        self._progress(len(self.picks))
        return True


def _pick_typical(picker: _Picker, usable: Ints, labels: Ints, count: int, seed: int) -> None:
    """Pick the most typical rows of groups in turn: those with the fewest labels first, then the largest."""
    x, known = picker._x[usable], labels[usable] >= 0
    if count < 1 or not len(x):
        return
    generator = torch.Generator().manual_seed(seed)
    groups = min(_MAX_GROUPS, int(known.sum()) + count)
    model = fit_kmeans(x, groups, generator, operations=_KMEANS_OPERATIONS)
    with single_thread_no_warnings():
        assigned = model.predict(x)
    given = np.bincount(assigned[known], minlength=len(model.cluster_centers_))
    sizes = np.bincount(assigned, minlength=len(given))
    distances = np.linalg.norm(x - model.cluster_centers_[assigned], axis=1)
    queue = np.lexsort((-sizes, given)).tolist()
    order = {}
    for group in queue:
        rows = np.flatnonzero(assigned == group)
        order[group] = usable[rows[np.argsort(distances[rows], kind="stable")]]
    while queue and len(picker.picks) < count:
        queue = [
            group
            for group in queue
            if len(picker.picks) < count and picker.pick(order[group], int(sizes[group]), int(given[group]))
        ]

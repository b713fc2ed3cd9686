"""Drawing rows class by class, reproducibly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def by_class(
    labels: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], rng: np.random.Generator
) -> dict[int, npt.NDArray[np.int64]]:
    """Return the positions of each class in a random order, classes ascending.

    A longer draw from the same order contains the shorter one, so that label budgets are nested.
    """
    of = labels[positions]
    return {int(label): rng.permutation(positions[of == label]) for label in np.unique(of)}


def proportional(sizes: Mapping[int, int], total: int, *, least: int = 0) -> dict[int, int]:
    """Share `total` among classes in proportion to their sizes, by largest remainders.

    No class gets more than its size or, as far as its size and `total` allow, less than `least`.

    >>> proportional({0: 70, 1: 30}, 10)
    {0: 7, 1: 3}
    >>> proportional({0: 99, 1: 1}, 10, least=1)
    {0: 9, 1: 1}
    """
    rows = sum(sizes.values())
    total = min(total, rows)
    if least * len(sizes) > total:
        least = 0
    quota = {label: total * size / rows if rows else 0.0 for label, size in sizes.items()}
    counts = {label: min(sizes[label], max(least, int(share))) for label, share in quota.items()}
    while (gap := total - sum(counts.values())) != 0:
        step = 1 if gap > 0 else -1
        movable = [
            label
            for label in sizes
            if (counts[label] < sizes[label] if step > 0 else counts[label] > min(least, sizes[label]))
        ]
        best = max(movable, key=lambda label: (step * (quota[label] - counts[label]), -label))
        counts[best] += step
    return counts


def even(sizes: Mapping[int, int], total: int, rng: np.random.Generator) -> dict[int, int]:
    """Share `total` evenly among classes; the classes that get one more are drawn."""
    each, over = divmod(total, len(sizes))
    lucky = {list(sizes)[index] for index in rng.permutation(len(sizes))[:over]}
    return {label: each + (label in lucky) for label in sizes}

"""Reproducible sampling of rows by class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from flowgmm_cli.api import SplitConfig
from flowgmm_cli.data.array_types import Ints, Positions

HELD_OUT_NOTES = (
    "are set aside for the test (data.split.test)",
    "with labels beyond the labelled budget form the validation split (data.split.val_labels)",
)
"""Descriptions of the labelled rows that stream 0 and stream 1 hold out, see `split_rng`."""


def shuffle_by_class(labels: Ints, positions: Positions, rng: np.random.Generator) -> dict[int, Positions]:
    """Return the positions of each class in random order, classes ascending.

    A longer sample from the same order contains the shorter one, so label budgets are nested.
    """
    position_labels = labels[positions]
    return {
        int(label): rng.permutation(positions[position_labels == label])
        for label in np.unique(position_labels)
    }


def allocate_proportionally(sizes: Mapping[int, int], total: int, *, least: int = 0) -> dict[int, int]:
    """Divide `total` among classes in proportion to their sizes, by largest remainders.

    No class gets more than its size or, as far as its size and `total` allow, less than `least`.

    >>> allocate_proportionally({0: 70, 1: 30}, 10)
    {0: 7, 1: 3}
    >>> allocate_proportionally({0: 99, 1: 1}, 10, least=1)
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


def allocate_evenly(sizes: Mapping[int, int], total: int, rng: np.random.Generator) -> dict[int, int]:
    """Divide `total` evenly among classes; the classes that get an extra row are random."""
    each, remainder = divmod(total, len(sizes))
    extra = {list(sizes)[index] for index in rng.permutation(len(sizes))[:remainder]}
    return {label: each + (label in extra) for label in sizes}


def sample_held_out(
    labels: Ints,
    candidates: Positions,
    count: int,
    split: SplitConfig,
    *,
    stream: int,
    sizes: Mapping[int, int] | None = None,
) -> Positions:
    """Sample `count` labelled rows to hold out, by class if `stratify`; each class keeps at least one row.

    `candidates` are positions in `labels`. If they are a sample, `sizes` gives the rows of each class.
    """
    rng = split_rng(split, stream=stream)
    order = shuffle_by_class(labels, candidates, rng)
    spare = {label: positions[:-1] for label, positions in order.items()}
    if split.stratify:
        sizes = sizes or {label: len(positions) for label, positions in order.items()}
        counts = allocate_proportionally(sizes, count)
        samples = [spare[label][: counts[label]] for label in order]
    else:
        pool = np.concatenate([np.empty(0, dtype=np.int64), *spare.values()])
        samples = [rng.permutation(np.sort(pool))[:count]]
    return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *samples]))


def split_rng(split: SplitConfig, *, stream: int) -> np.random.Generator:
    """Return the random generator of test rows (stream 0) or validation rows (stream 1)."""
    return np.random.default_rng([split.seed, stream])

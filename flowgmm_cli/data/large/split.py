"""Assign the rows of a table on disk to splits, by their indices.

The steps are those of `flowgmm_cli.data.splits`, but the numbers of test and validation rows are bounded,
because both splits stay in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowgmm_cli.api import LabelsConfig, Rows, SplitConfig, iterate_batches
from flowgmm_cli.data.array_types import Array, Positions
from flowgmm_cli.data.label_budget import choose_labelled
from flowgmm_cli.data.large.labels import TableLabels
from flowgmm_cli.data.stratified_sampling import HELD_OUT_NOTES, sample_held_out, split_rng

MAX_HELD_OUT_ROWS = 20_000
"""Maximum number of test rows, and of validation rows: the standard error of an accuracy is below 0.4 %."""
MAX_SAMPLE_ROWS = 50_000
"""Maximum number of training rows in memory in addition to the labelled rows."""
MIN_ROWS = 1000
"""Number of rows of each kind that stay in memory even if the budget is smaller."""
_MAX_CANDIDATES = 2**20  # labelled rows to choose from; a random subset of each class if there are more
_BLOCK_ROWS = 2**22
_EMPTY: Positions = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class SplitIndex:
    """Indices of rows in the table, ascending; the groups are disjoint, except for `sample`.

    Attributes:
        labelled: training rows with a visible label.
        sample: training rows at equal distances; some of them may be labelled.
        test, val: held-out rows.
        notes: messages for the user.
    """

    labelled: Positions
    sample: Positions
    test: Positions
    val: Positions
    notes: tuple[str, ...]


def assign_splits(
    table_labels: TableLabels,
    labels: LabelsConfig,
    split: SplitConfig,
    *,
    max_rows: int,
    has_test: bool,
    has_val: bool,
    require_memory: Callable[[int], None],
) -> SplitIndex:
    """Draw the rows of each split.

    Args:
        table_labels: labels of all rows.
        labels: the labelled budget.
        split: fractions of held-out rows.
        max_rows: number of rows of each kind that fit into memory.
        has_test, has_val: True if the split has its own files.
        require_memory: called with the number of labelled rows; raises an error if they are too many.
    """
    notes: list[str] = []
    total = len(table_labels.codes)
    max_rows = max(max_rows, MIN_ROWS)
    places, codes, sizes = _draw_candidates(table_labels, labels, split.seed)
    thinned = len(places) < sum(sizes.values())
    if thinned:
        # keep the class proportions of all rows, not those of the candidates
        split = split.model_copy(update={"stratify": True})
    marked = np.zeros(len(places), dtype=bool)
    if table_labels.marked is not None:
        marked = table_labels.marked[places]
    free = np.ones(len(places), dtype=bool)

    def hold_out(stream: int, target: int) -> Positions:
        candidates = np.flatnonzero(free & ~marked)
        if not len(candidates) and stream == 0:
            candidates = np.flatnonzero(free)
        count = min(target, max_rows, MAX_HELD_OUT_ROWS, len(candidates) // 2 if thinned else target)
        chosen = sample_held_out(
            codes, candidates, count, split, stream=stream, sizes=sizes if thinned else None
        )
        free[chosen] = False
        notes.extend(_describe_count(len(chosen), target, HELD_OUT_NOTES[stream]))
        return places[chosen]

    test = val = _EMPTY
    if not has_test and split.test > 0:
        target = round(split.test * sum(sizes.values()))
        test = hold_out(0, target)
    val_target = 0 if has_val else round(split.val * (total - len(test)))
    if val_target and split.val_labels:
        val = hold_out(1, val_target)

    held_out = np.concatenate([test, val])
    held_out_sizes = _class_sizes(table_labels.codes[held_out])
    sizes = {label: size - held_out_sizes.get(label, 0) for label, size in sizes.items()}
    usable = np.flatnonzero(free & (marked if table_labels.marked is not None else True))
    available = Rows({}, codes[usable], places[usable])
    labelled = _draw_labelled(
        available, table_labels, labels, sizes, total=total - len(held_out), require_memory=require_memory
    )
    if val_target and not split.val_labels:
        rng = split_rng(split, stream=1)
        val = _draw_others(rng, total, min(val_target, max_rows, MAX_HELD_OUT_ROWS), [test, labelled])
        notes.extend(_describe_count(len(val), val_target, "are held out (data.split.val)"))
    spaced = np.unique(np.linspace(0, total - 1, min(total, max_rows, MAX_SAMPLE_ROWS)).astype(np.int64))
    sample = np.setdiff1d(spaced, np.concatenate([test, val]))
    return SplitIndex(np.sort(labelled), sample, np.sort(test), np.sort(val), tuple(notes))


def _describe_count(count: int, target: int, description: str) -> list[str]:
    reason = f", not {target:,}: they are kept in memory" if target > count else ""
    return [f"{count:,} rows {description}{reason}"] if count else []


def _draw_labelled(
    available: Rows,
    table_labels: TableLabels,
    labels: LabelsConfig,
    sizes: dict[int, int],
    *,
    total: int,
    require_memory: Callable[[int], None],
) -> Positions:
    """Draw labelled rows among `available`, whose ids are indices; `labels.fraction` is one of `total`."""
    budget = labels.model_copy(update={"column": None})
    if budget.fraction is not None:
        budget = budget.model_copy(update={"fraction": None, "count": round(budget.fraction * total)})
    has_markers = table_labels.marked is not None
    if budget.count is None and budget.per_class is None and not has_markers:
        require_memory(sum(sizes.values()))  # all labels are used: check before a subset is drawn
    known = None if has_markers else {label: size for label, size in sizes.items() if size}
    chosen = choose_labelled(available, budget, table_labels.names, sizes=known)
    require_memory(len(chosen))
    labelled: Positions = available.ids[chosen]
    return labelled


def _draw_candidates(
    table_labels: TableLabels, labels: LabelsConfig, seed: int
) -> tuple[Positions, Positions, dict[int, int]]:
    """Draw about `_MAX_CANDIDATES` labelled rows; return indices, codes, and the sizes of all classes."""
    sizes: dict[int, int] = {}
    for block in iterate_batches(len(table_labels.codes), _BLOCK_ROWS):
        for label, count in _class_sizes(table_labels.codes[block]).items():
            sizes[label] = sizes.get(label, 0) + count
    share = np.ones(max(sizes, default=0) + 1)
    if sum(sizes.values()) > 2 * _MAX_CANDIDATES:
        # enough rows of each class for stratified and for balanced draws
        per_class = _MAX_CANDIDATES // len(sizes) + 4 * (labels.per_class or 0)
        for label, size in sizes.items():
            share[label] = min(1.0, _MAX_CANDIDATES / sum(sizes.values()) + per_class / size)
    rng = np.random.default_rng([seed, 2])
    drawn = []
    for block in iterate_batches(len(table_labels.codes), _BLOCK_ROWS):
        codes = table_labels.codes[block]
        places = np.flatnonzero(codes >= 0)
        if (share < 1).any():
            marked = table_labels.marked[block][places] if table_labels.marked is not None else False
            places = places[(rng.random(len(places)) < share[codes[places]]) | marked]
        drawn.append(places + block.start)
    candidates = np.concatenate(drawn)
    return candidates, table_labels.codes[candidates].astype(np.int64), dict(sorted(sizes.items()))


def _class_sizes(codes: Array) -> dict[int, int]:
    counts = np.bincount(codes[codes >= 0])
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def _draw_others(rng: np.random.Generator, total: int, count: int, excluded: list[Positions]) -> Positions:
    """Draw `count` rows that are not excluded."""
    out = np.concatenate(excluded)
    if total <= 10 * (count + len(out)):
        free = np.setdiff1d(np.arange(total), out)
        return rng.permutation(free)[:count]
    shuffle = rng.choice(total, count + len(out), replace=False)  # takes less memory than a list of all rows
    return shuffle[~np.isin(shuffle, out)][:count]

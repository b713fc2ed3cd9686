"""Which rows of a table in files are held out, labelled, and kept in memory, by their numbers alone.

The order of steps is that of `flowgmm_cli.data.splits`; but the numbers of test and validation rows are
bounded, since both are kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import LabelsConfig, Rows, SplitConfig, iterate_batches
from flowgmm_cli.data.labels import choose_labelled
from flowgmm_cli.data.large.classes import Classes
from flowgmm_cli.data.splits import draw, split_generator

if TYPE_CHECKING:
    import numpy.typing as npt

    Positions = npt.NDArray[np.int64]

HELD_OUT = 20_000
"""Test rows, and validation rows, at most: enough for an accuracy to a third of a percent."""
SAMPLE = 50_000
"""Training rows kept in memory beside the labelled ones, at most."""
LEAST = 1000
"""Rows of each kind that are kept in memory however small the budget is."""
_CANDIDATES = 2**20  # labelled rows among which is chosen; of more some are drawn, evenly within a class
_BLOCK = 2**22
_NONE: Positions = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Places:
    """Numbers of rows in the table, each ascending; no two have a row in common, but for `sample`.

    Attributes:
        labelled: training rows whose label may be seen.
        sample: training rows from everywhere, some of them labelled.
        test, val: held-out rows.
        notes: what the user should know.
    """

    labelled: Positions
    sample: Positions
    test: Positions
    val: Positions
    notes: tuple[str, ...]


def find_places(
    classes: Classes,
    labels: LabelsConfig,
    split: SplitConfig,
    *,
    most: int,
    has_test: bool,
    has_val: bool,
    require_room: Callable[[int], None],
) -> Places:
    """Draw the rows.

    Args:
        classes: of all rows.
        labels: the labelled budget.
        split: shares of held-out rows.
        most: rows of each kind that fit into memory.
        has_test, has_val: whether the split comes from elsewhere.
        require_room: told how many labelled rows there will be; raises if these are too many.

    Raises:
        DataError: there are too few labels for the budget, or too many for the memory.
    """
    notes: list[str] = []
    total = len(classes.codes)
    most = max(most, LEAST)
    places, codes, sizes = _candidates(classes, labels, split.seed)
    thinned = len(places) < sum(sizes.values())
    if thinned:
        split = split.model_copy(update={"stratify": True})  # in proportion to all, not to these
    marked = np.zeros(len(places), dtype=bool)
    if classes.marked is not None:
        marked = classes.marked[places]
    rows = Rows({}, codes, places)
    free = np.ones(len(places), dtype=bool)

    def hold_out(stream: int, wanted: int, what: str) -> Positions:
        candidates = np.flatnonzero(free & ~marked)
        if not len(candidates) and stream == 0:
            candidates = np.flatnonzero(free)
        bound = min(wanted, most, HELD_OUT, len(candidates) // 2 if thinned else wanted)
        chosen = draw(rows, candidates, bound, split, stream=stream, sizes=sizes if thinned else None)
        free[chosen] = False
        if len(chosen):
            more = f", not {wanted:,}: they are kept in memory" if wanted > len(chosen) else ""
            notes.append(f"{len(chosen):,} rows {what}{more}")
        return places[chosen]

    test = val = _NONE
    if not has_test and split.test > 0:
        wanted = round(split.test * sum(sizes.values()))
        test = hold_out(0, wanted, "are set aside for the test (data.split.test)")
    wanted_val = 0 if has_val else round(split.val * (total - len(test)))
    if wanted_val and split.val_labels:
        what = "with labels beyond the labelled budget form the validation split (data.split.val_labels)"
        val = hold_out(1, wanted_val, what)

    taken = _by_class(classes.codes[np.concatenate([test, val])])
    sizes = {label: size - taken.get(label, 0) for label, size in sizes.items()}
    budget = labels.model_copy(update={"column": None})
    if budget.fraction is not None:
        count = round(budget.fraction * (total - len(test) - len(val)))
        budget = budget.model_copy(update={"fraction": None, "count": count})
    usable = np.flatnonzero(free & (marked if classes.marked is not None else True))
    if budget.count is None and budget.per_class is None and classes.marked is None:
        require_room(sum(sizes.values()))  # before some of very many are taken for all
    left = Rows({}, codes[usable], places[usable])
    known = {label: size for label, size in sizes.items() if size} if classes.marked is None else None
    chosen = choose_labelled(left, budget, classes.names, sizes=known)
    labelled = left.ids[chosen]
    require_room(len(labelled))

    rng = split_generator(split, stream=1)
    if wanted_val and not split.val_labels:
        val = _others(rng, total, min(wanted_val, most, HELD_OUT), [test, labelled])
        if len(val):
            more = f", not {wanted_val:,}: they are kept in memory" if wanted_val > len(val) else ""
            notes.append(f"{len(val):,} rows are held out (data.split.val){more}")
    even = np.unique(np.linspace(0, total - 1, min(total, most, SAMPLE)).astype(np.int64))
    sample = np.setdiff1d(even, np.concatenate([test, val]))
    return Places(np.sort(labelled), sample, np.sort(test), np.sort(val), tuple(notes))


def _candidates(
    classes: Classes, labels: LabelsConfig, seed: int
) -> tuple[Positions, Positions, dict[int, int]]:
    """Labelled rows, of very many some of each class; their codes; and how many each class has in all."""
    sizes: dict[int, int] = {}
    for block in iterate_batches(len(classes.codes), _BLOCK):
        for label, count in _by_class(classes.codes[block]).items():
            sizes[label] = sizes.get(label, 0) + count
    share = np.ones(max(sizes, default=0) + 1)
    if sum(sizes.values()) > 2 * _CANDIDATES:
        # enough of each class for draws in proportion to the classes and for equally many of each
        even = _CANDIDATES // len(sizes) + 4 * (labels.per_class or 0)
        for label, size in sizes.items():
            share[label] = min(1.0, _CANDIDATES / sum(sizes.values()) + even / size)
    rng = np.random.default_rng([seed, 2])
    found = []
    for block in iterate_batches(len(classes.codes), _BLOCK):
        codes = classes.codes[block]
        places = np.flatnonzero(codes >= 0)
        if (share < 1).any():
            marked = classes.marked[block][places] if classes.marked is not None else False
            places = places[(rng.random(len(places)) < share[codes[places]]) | marked]
        found.append(places + block.start)
    every = np.concatenate(found)
    return every, classes.codes[every].astype(np.int64), dict(sorted(sizes.items()))


def _by_class(codes: npt.NDArray[Any]) -> dict[int, int]:
    counts = np.bincount(codes[codes >= 0])
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def _others(rng: np.random.Generator, total: int, wanted: int, taken: list[Positions]) -> Positions:
    """Some rows that are not taken."""
    out = np.concatenate(taken)
    if total <= 10 * (wanted + len(out)):
        free = np.setdiff1d(np.arange(total), out)
        return rng.permutation(free)[:wanted]
    drawn = rng.choice(total, wanted + len(out), replace=False)  # a list of all would be longer than that
    return drawn[~np.isin(drawn, out)][:wanted]

"""Resemblance of unlabelled rows far from all labels to the classes: parts of these, or other kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.mixture.clusters import fit_logistic

Classes = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

_MIN_ROWS = 5  # of a part of a class
_LEAST = 0.2  # agreement that ratios are formed with: less is hardly more than chance
_MOST_FAR = 0.9  # share of the unlabelled rows
_STEPS = 20  # of a power iteration


def rate_resemblance(
    x: Floats,
    labels: Classes,
    spread: Classes,
    graph: Any,
    rank: npt.NDArray[np.float64],
    interval: tuple[float, float, float],
) -> float:
    r"""Rate how far unlabelled rows without labels near them resemble the classes, from 0 to 1.

    If labelled rows are not drawn at random, parts of the classes lie far from all labels. They differ from
    kinds of their own: classifiers agree on their class, every class has such rows, and edges of the graph
    lead from them to other rows of their class. The result is

    .. math:: \sqrt{e} \, (a + b + c) / 3

    with numbers from 0 to 1. a compares far with other unlabelled rows by the agreement (Cohen's kappa) of
    label spreading and logistic regression, b by that of two regressions, each on half of the features. c is
    the share of far rows in a class, relative to that in all rows; at most 1, and the mean over classes. e is
    four times the weight of the edges between the farthest and near rows of a class, relative to that between
    two halves of it: rows across a gap are of another kind.

    Args:
        x: rows, the L labelled ones first, `(N, D)`.
        labels: classes of the labelled rows, `(L,)`.
        spread: classes of all rows by label spreading, `(N,)`.
        graph: symmetric affinities, sparse `(N, N)`.
        rank: share of the unlabelled rows that is farther from labels, 1 for labelled rows, `(N,)`.
        interval: lowest, estimated and highest share of far rows among the unlabelled ones.
    """
    low, share, high = interval
    is_far, is_farthest = rank < share, rank < max(low, share / 2)
    is_near = rank >= min(max(share, high), _MOST_FAR)
    known = np.unique(labels)
    unlabelled = np.arange(len(x)) >= len(labels)
    sides = is_far, unlabelled & ~is_far
    scaled = x / max(float(x.std()), 1e-12)
    whole = _predict(scaled, labels)
    halves = [_predict(scaled[:, start::2] * 2**0.5, labels) for start in (0, 1)]
    spread_agrees = _ratio(*(_kappa(spread[side], whole[side]) for side in sides))
    halves_agree = _ratio(
        *(float(np.mean(halves[0][side] == halves[1][side])) - 1 / len(known) for side in sides)
    )
    classes = [spread == k for k in known]
    shares = [
        float(is_far[rows & unlabelled].mean()) if (rows & unlabelled).any() else 0.0 for rows in classes
    ]
    spans_classes = float(np.mean([min(own / share, 1) for own in shares]))
    outwards = _connection(graph, [(rows & is_farthest, rows & is_near) for rows in classes])
    within = _connection(graph, [_halve(x, rows & ~is_far) for rows in classes])
    edges = min(4 * outwards / within, 1) if within else 1.0
    return float(edges**0.5 * (spread_agrees + halves_agree + spans_classes) / 3)


def _predict(x: Floats, labels: Classes) -> Classes:
    """Predict classes of rows `(N, D)` by logistic regression on the first of them, which have the labels."""
    known, codes = np.unique(labels, return_inverse=True)
    if len(known) < 2 or not x.shape[1]:
        return np.full(len(x), known[0])
    weight, bias = fit_logistic(x[: len(labels)].astype(np.float64), codes, strength=10.0)
    return np.asarray(known[(x @ weight.T + bias).argmax(1)])


def _ratio(far: float, others: float) -> float:
    return min(max(far / max(others, _LEAST), 0.0), 1.0)


def _kappa(first: Classes, second: Classes) -> float:
    """Return Cohen's kappa of two predictions `(N,)`: their agreement beyond that by chance."""
    by_chance = sum(float(np.mean(first == k) * np.mean(second == k)) for k in np.unique(first))
    return (float(np.mean(first == second)) - by_chance) / max(1 - by_chance, 1e-12)


def _halve(x: Floats, mask: Mask) -> tuple[Mask, Mask]:
    """Divide rows at the median of their first principal component, which a power iteration finds."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return mask, mask
    centred = x[rows] - x[rows].mean(0)
    direction = centred.std(0)
    for _ in range(_STEPS):
        direction = centred.T @ (centred @ direction)
        direction /= max(float(np.linalg.norm(direction)), 1e-12)
    place = centred @ direction
    first = np.zeros_like(mask)
    first[rows[place > np.median(place)]] = True
    return first, mask & ~first


def _connection(graph: Any, pairs: Sequence[tuple[Mask, Mask]]) -> float:
    """Return the weight of edges between two parts of each class, relative to parts drawn at random."""
    degree, edges, expected = np.asarray(graph.sum(1), dtype=np.float64), 0.0, 0.0
    for first, second in pairs:
        if min(first.sum(), second.sum()) >= _MIN_ROWS:
            sizes = degree[first].sum(), degree[second].sum()
            edges += float(graph[first][:, second].sum())
            expected += sizes[0] * sizes[1] / (sizes[0] + sizes[1])
    return edges / expected if expected else 0.0

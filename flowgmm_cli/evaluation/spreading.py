"""Label spreading (Zhou et al., 2004) on a neighbour graph of all rows and on a dense kernel of some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.evaluation.tuning import Problem, choose
from flowgmm_cli.neighbours import ITERATIONS, TINY, affinity, normalised, shares_of, spread_mass

FloatArray = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.intp]

NEIGHBOURS = (10, 30)
WIDTHS = (10.0, 20.0, 100.0)
COSINE_FEATURES = 10  # in fewer dimensions a direction says too little
DENSE_ROWS = 4000  # a dense kernel of so many rows takes 64 MB
GRAPH_COST = 2.5e11  # rows * rows * features of the neighbour search: seconds on two cores


class Graph(ABC):
    """Training rows as nodes, joined to one another and to the test rows; a setting says how widely."""

    name: str
    metric: str
    settings: tuple[float, ...]
    alphas: tuple[float, ...]
    rows: Index

    @abstractmethod
    def within(self, setting: float) -> Any:
        """Normalised affinity of the nodes, `(n, n)`, sparse or dense."""

    @abstractmethod
    def to_test(self, setting: float, shares: FloatArray) -> FloatArray:
        """Mean of the nodes' `shares` `(n, K)` about each test row, `(M, K)`."""


def label_spreading(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """Spread labels over the graph that cross-validation likes best; probabilities `(M, K)` and settings."""
    metrics = ("euclidean", "cosine") if problem.x.shape[1] >= COSINE_FEATURES else ("euclidean",)
    graphs: list[Graph] = [
        kind(problem, metric) for kind in (NeighbourGraph, KernelGraph) for metric in metrics
    ]
    candidates = [(g, setting, alpha) for g in graphs for setting in g.settings for alpha in g.alphas]

    @lru_cache(maxsize=1)  # candidates come graph by graph, and one of them may be dense
    def within(index: int, setting: float) -> Any:
        return graphs[index].within(setting)

    def spread_from(candidate: tuple[Graph, float, float], sets: Sequence[Index]) -> FloatArray:
        """Class shares `(n, len(sets), K)`, each set of labels spread by itself, all in one product."""
        graph, setting, alpha = candidate
        start = np.zeros((len(graph.rows), len(sets), problem.classes), dtype=np.float32)
        for index, labelled in enumerate(sets):
            labelled = np.intersect1d(labelled, graph.rows)
            start[np.searchsorted(graph.rows, labelled), index, problem.labels[labelled]] = 1
        return spread(within(graphs.index(graph), setting), start, alpha=alpha)

    def predict(candidate: tuple[Graph, float, float]) -> FloatArray:
        shares = spread_from(candidate, [fitted for fitted, _ in problem.splits])
        places = [np.searchsorted(candidate[0].rows, held_out) for _, held_out in problem.splits]
        return np.concatenate([shares[place, index] for index, place in enumerate(places)])

    best = choose(candidates, predict, problem, default=candidates[0])
    graph, setting, alpha = best
    probabilities = graph.to_test(setting, spread_from(best, [problem.labelled])[:, 0])
    settings = {"graph": graph.name, "metric": graph.metric, "width": setting, "alpha": alpha}
    return probabilities, {**settings, "rows": len(graph.rows)}


def spread(
    within: Any, start: npt.NDArray[np.float32], *, alpha: float, iterations: int = ITERATIONS
) -> npt.NDArray[np.float32]:
    """Class shares `(n, ..., K)` of the nodes: rows that sum to 1, equal ones where no label arrives.

    Args:
        within: the normalised affinity, `(n, n)`.
        start: the labels, `(n, ..., K)`, one-hot, with zeros for nodes without one.
        alpha: how much a node takes from its neighbours.
        iterations: at most this many.
    """
    return shares_of(spread_mass(within, start, alpha=alpha, iterations=iterations))


class NeighbourGraph(Graph):
    """Nearest neighbours, with weights that adapt to the local density; the setting is their number.

    See `flowgmm_cli.neighbours.affinity`.
    """

    name = "nearest neighbours"
    alphas = (0.9, 0.99)

    def __init__(self, problem: Problem, metric: str = "euclidean") -> None:
        from sklearn.neighbors import NearestNeighbors

        self.metric = metric
        self.rows = sample(problem, int((GRAPH_COST / problem.x.shape[1]) ** 0.5))
        most = min(max(NEIGHBOURS), len(self.rows) - 1)
        self.settings = tuple(sorted({float(min(k, most)) for k in NEIGHBOURS}))
        search = NearestNeighbors(n_neighbors=most).fit(_directed(problem.x[self.rows], metric))
        self.distance, self.index = search.kneighbors()
        self.test_distance, self.test_index = search.kneighbors(_directed(problem.x_test, metric))

    def within(self, setting: float) -> Any:
        """Normalised affinity of the nodes, sparse."""
        return normalised(self._affinity(self.distance, self.index, int(setting)))

    def to_test(self, setting: float, shares: FloatArray) -> FloatArray:
        """Mean of the nodes' `shares` about each test row."""
        reach = self._affinity(self.test_distance, self.test_index, int(setting))
        return np.asarray((reach @ shares) / np.maximum(reach.sum(1), TINY)[:, None])

    def _affinity(self, distance: FloatArray, index: Index, k: int) -> Any:
        sigma, own = self.distance[:, k - 1], distance[:, k - 1]
        return affinity(distance[:, :k], index[:, :k], sigma, own=own)


class KernelGraph(Graph):
    """A dense Gaussian kernel; the setting is its exponent at the median squared distance."""

    name = "Gaussian kernel"
    settings = WIDTHS
    alphas = (0.5, 0.9, 0.99)

    def __init__(self, problem: Problem, metric: str = "euclidean") -> None:
        from sklearn.metrics.pairwise import euclidean_distances

        self.metric = metric
        self.rows = sample(problem, DENSE_ROWS)
        self.x, self.x_test = _directed(problem.x[self.rows], metric), _directed(problem.x_test, metric)
        self.between = euclidean_distances(self.x, squared=True)
        self.median = max(float(np.median(self.between)), TINY)

    def within(self, setting: float) -> Any:
        """Normalised affinity of the nodes, dense."""
        joined = np.exp(-setting / self.median * self.between)
        np.fill_diagonal(joined, 0)
        degree = np.sqrt(np.maximum(joined.sum(1), TINY))
        joined /= degree[:, None]
        joined /= degree
        return joined

    def to_test(self, setting: float, shares: FloatArray) -> FloatArray:
        """Mean of the nodes' `shares` about each test row."""
        from sklearn.metrics.pairwise import euclidean_distances

        result = np.empty((len(self.x_test), shares.shape[1]), dtype=np.float32)
        for part in iterate_batches(len(self.x_test), 4096):
            distance = euclidean_distances(self.x_test[part], self.x, squared=True)
            # Relative to the nearest node, so that a far row still takes after its neighbours.
            distance -= distance.min(1, keepdims=True)
            weight = np.exp(-setting / self.median * distance)
            result[part] = (weight @ shares) / weight.sum(1, keepdims=True)
        return result


def _directed(x: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float32]:
    """Rows of length 1 for the cosine, which orders them as the distance between such rows does."""
    if metric == "euclidean":
        return x
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY))


def sample(problem: Problem, most: int) -> Index:
    """At most `most` training rows, ascending: those that settings are chosen on and labelled ones first."""
    rng = problem.rng()
    chosen = problem.tuning_rows
    more = rng.permutation(np.setdiff1d(problem.labelled, chosen))
    rows = np.concatenate([chosen, more, rng.permutation(problem.unlabelled)])[: max(most, len(chosen))]
    return np.sort(rows)

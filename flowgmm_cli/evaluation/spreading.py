"""Label spreading (Zhou et al., 2004) on a neighbour graph of all rows and on a dense kernel of some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.evaluation.tuning import Problem, choose

FloatArray = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.intp]

NEIGHBOURS = (10, 30)
WIDTHS = (3.0, 10.0, 30.0, 100.0)
ALPHAS = (0.5, 0.9)
DENSE_ROWS = 5000  # a dense kernel of so many rows takes 100 MB
GRAPH_COST = 2.5e11  # rows * rows * features of the neighbour search: seconds on two cores
ITERATIONS = 30
TINY = float(np.finfo(np.float32).tiny)


class Graph(ABC):
    """Training rows as nodes, joined to one another and to the test rows; a setting says how widely."""

    name: str
    settings: tuple[float, ...]
    rows: Index

    @abstractmethod
    def within(self, setting: float) -> Any:
        """Normalised affinity of the nodes, `(n, n)`, sparse or dense."""

    @abstractmethod
    def to_test(self, setting: float, shares: FloatArray) -> FloatArray:
        """Mean of the nodes' `shares` `(n, K)` about each test row, `(M, K)`."""


def label_spreading(problem: Problem) -> tuple[FloatArray, dict[str, Any]]:
    """Spread labels over the graph that cross-validation likes best; probabilities `(M, K)` and settings."""
    graphs: tuple[Graph, ...] = (NeighbourGraph(problem), KernelGraph(problem))
    candidates = [(g, setting, alpha) for g in graphs for setting in g.settings for alpha in ALPHAS]

    @lru_cache(maxsize=1)  # candidates come graph by graph, and one of them may take 100 MB
    def within(index: int, setting: float) -> Any:
        return graphs[index].within(setting)

    def spread_from(candidate: tuple[Graph, float, float], labelled: Index) -> FloatArray:
        graph, setting, alpha = candidate
        labelled = np.intersect1d(labelled, graph.rows)
        start = np.zeros((len(graph.rows), problem.classes), dtype=np.float32)
        start[np.searchsorted(graph.rows, labelled), problem.labels[labelled]] = 1
        return spread(within(graphs.index(graph), setting), start, alpha=alpha)

    def predict(candidate: tuple[Graph, float, float], fitted: Index, held_out: Index) -> FloatArray:
        return spread_from(candidate, fitted)[np.searchsorted(candidate[0].rows, held_out)]

    best = choose(candidates, predict, problem, default=candidates[0])
    graph, setting, alpha = best
    probabilities = graph.to_test(setting, spread_from(best, problem.labelled))
    return probabilities, {"graph": graph.name, "setting": setting, "alpha": alpha, "rows": len(graph.rows)}


def spread(within: Any, start: npt.NDArray[np.float32], *, alpha: float) -> npt.NDArray[np.float32]:
    r"""Iterate :math:`F \leftarrow \alpha S F + (1 - \alpha) Y`; class shares `(n, K)` of the nodes.

    Args:
        within: the normalised affinity S, `(n, n)`.
        start: the labels Y, one-hot, with zeros for nodes without one.
        alpha: how much a node takes from its neighbours.

    Returns:
        Rows that sum to 1; equal shares where no label arrives.
    """
    mass = start
    for _ in range(ITERATIONS):
        update = alpha * (within @ mass) + (1 - alpha) * start
        moved = np.abs(update - mass).max()
        mass = update
        if moved < 1e-4:
            break
    total = mass.sum(1, keepdims=True)
    shares = np.full_like(mass, 1 / mass.shape[1])
    np.divide(mass, total, out=shares, where=total > TINY)
    return shares


class NeighbourGraph(Graph):
    r"""Nearest neighbours, with weights that adapt to the local density.

    :math:`w_{ij} = \exp(-d_{ij}^2 / (\sigma_i \sigma_j))`, sigma being the distance to the last neighbour
    (Zelnik-Manor and Perona, 2004). The setting is the number of neighbours.
    """

    name = "nearest neighbours"

    def __init__(self, problem: Problem) -> None:
        from sklearn.neighbors import NearestNeighbors

        self.rows = sample(problem, int((GRAPH_COST / problem.x.shape[1]) ** 0.5))
        most = min(max(NEIGHBOURS), len(self.rows) - 1)
        self.settings = tuple(sorted({float(min(k, most)) for k in NEIGHBOURS}))
        search = NearestNeighbors(n_neighbors=most).fit(problem.x[self.rows])
        self.distance, self.index = search.kneighbors()
        self.test_distance, self.test_index = search.kneighbors(problem.x_test)

    def within(self, setting: float) -> Any:
        """Normalised affinity of the nodes, sparse."""
        from scipy import sparse

        joined = self._affinity(self.distance, self.index, int(setting))
        joined = joined.maximum(joined.T)
        scaling = sparse.diags_array(1 / np.sqrt(np.maximum(joined.sum(1), TINY)), dtype=np.float32)
        return (scaling @ joined @ scaling).tocsr()

    def to_test(self, setting: float, shares: FloatArray) -> FloatArray:
        """Mean of the nodes' `shares` about each test row."""
        reach = self._affinity(self.test_distance, self.test_index, int(setting))
        return np.asarray((reach @ shares) / np.maximum(reach.sum(1), TINY)[:, None])

    def _affinity(self, distance: FloatArray, index: Index, k: int) -> Any:
        from scipy import sparse

        sigma = np.maximum(self.distance[:, k - 1], 1e-12)
        own = np.maximum(distance[:, k - 1], 1e-12)
        distance, index = distance[:, :k], index[:, :k]
        weight = np.exp(-(distance / own[:, None]) * (distance / sigma[index])).astype(np.float32)
        # Where the neighbours' own surroundings are far denser every weight would vanish: keep a trace.
        weight = np.maximum(weight, np.float32(1e-6))
        start = np.arange(0, index.size + 1, k)
        return sparse.csr_array((weight.ravel(), index.ravel(), start), shape=(len(index), len(self.rows)))


class KernelGraph(Graph):
    """A dense Gaussian kernel; the setting is its exponent at the median squared distance."""

    name = "Gaussian kernel"
    settings = WIDTHS

    def __init__(self, problem: Problem) -> None:
        from sklearn.metrics.pairwise import euclidean_distances

        self.rows = sample(problem, DENSE_ROWS)
        self.x, self.x_test = problem.x[self.rows], problem.x_test
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


def sample(problem: Problem, most: int) -> Index:
    """At most `most` training rows, ascending: those that settings are chosen on and labelled ones first."""
    rng = problem.rng()
    chosen = problem.tuning_rows
    more = rng.permutation(np.setdiff1d(problem.labelled, chosen))
    rows = np.concatenate([chosen, more, rng.permutation(problem.unlabelled)])[: max(most, len(chosen))]
    return np.sort(rows)

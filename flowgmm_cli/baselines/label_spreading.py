"""Label spreading (Zhou et al., 2004) on a neighbour graph of all rows and on a dense kernel of some.

`sklearn.semi_supervised.LabelSpreading` has neither weights that adapt to the density nor a cosine metric,
and builds its graph anew for every fold and setting.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import NearestNeighbors

from flowgmm_cli.api import Config, iterate_batches
from flowgmm_cli.data.array_types import FloatArray, IntArray
from flowgmm_cli.evaluation.cross_validation import NO_ROWS, BaselineData, Index
from flowgmm_cli.neighbours import TINY, affinity, normalise_graph, normalise_rows, propagate_labels

NEIGHBOURS = (10, 30)
WIDTHS = (10.0, 20.0, 100.0)
MIN_COSINE_FEATURES = 10  # in fewer dimensions a direction carries too little information
MAX_KERNEL_ROWS = 4000  # a dense kernel of so many rows takes 64 MB
MAX_GRAPH_COST = 2.5e11  # rows * rows * features of the neighbour search: seconds on two cores
_BATCH_ROWS = 4096


class NeighbourGraph:
    """Nearest neighbours, with weights that adapt to the local density; the width is their number.

    See `flowgmm_cli.neighbours.affinity`.
    """

    name = "nearest neighbours"
    alphas = (0.9, 0.99)

    def __init__(self, data: BaselineData, metric: str = "euclidean") -> None:
        self.metric = metric
        self.rows = sample_rows(data, int((MAX_GRAPH_COST / data.x.shape[1]) ** 0.5))
        largest = min(max(NEIGHBOURS), len(self.rows) - 1)
        self.widths = tuple(sorted({float(min(k, largest)) for k in NEIGHBOURS}))
        self.search = NearestNeighbors(n_neighbors=largest).fit(_scale_rows(data.x[self.rows], metric))
        self.distance, self.index = self.search.kneighbors()

    def affinity_matrix(self, width: float) -> Any:
        """Return the normalised affinity of the nodes, sparse."""
        return normalise_graph(self._affinity(self.distance, self.index, int(width)))

    def predict(self, width: float, shares: FloatArray, x: FloatArray) -> FloatArray:
        """Average the nodes' class `shares` around each row of `x`."""
        distance, index = self.search.kneighbors(_scale_rows(x, self.metric))
        weights = self._affinity(distance, index, int(width))
        return np.asarray((weights @ shares) / np.maximum(weights.sum(1), TINY)[:, None])

    def _affinity(self, distance: FloatArray, index: Index, k: int) -> Any:
        return affinity(distance[:, :k], index[:, :k], self.distance[:, k - 1], row_sigma=distance[:, k - 1])


class KernelGraph:
    """A dense Gaussian kernel; the width is its exponent at the median squared distance."""

    name = "Gaussian kernel"
    widths = WIDTHS
    alphas = (0.5, 0.9, 0.99)

    def __init__(self, data: BaselineData, metric: str = "euclidean") -> None:
        self.metric = metric
        self.rows = sample_rows(data, MAX_KERNEL_ROWS)
        self.x = _scale_rows(data.x[self.rows], metric)
        self.distance = euclidean_distances(self.x, squared=True)
        self.median = max(float(np.median(self.distance)), TINY)

    def affinity_matrix(self, width: float) -> Any:
        """Return the normalised affinity of the nodes, dense."""
        matrix = np.exp(-width / self.median * self.distance)
        np.fill_diagonal(matrix, 0)
        root = np.sqrt(np.maximum(matrix.sum(1), TINY))
        matrix /= root[:, None]
        matrix /= root
        return matrix

    def predict(self, width: float, shares: FloatArray, x: FloatArray) -> FloatArray:
        """Average the nodes' class `shares` around each row of `x`."""
        x = _scale_rows(x, self.metric)
        result = np.empty((len(x), shares.shape[1]), dtype=np.float32)
        for batch in iterate_batches(len(x), _BATCH_ROWS):
            distance = euclidean_distances(x[batch], self.x, squared=True)
            # relative to the nearest node, so that the weights of a far row do not vanish
            distance -= distance.min(1, keepdims=True)
            weight = np.exp(-width / self.median * distance)
            result[batch] = (weight @ shares) / weight.sum(1, keepdims=True)
        return result


Graph = NeighbourGraph | KernelGraph
_KINDS: dict[str, type[Graph]] = {kind.name: kind for kind in (NeighbourGraph, KernelGraph)}


class LabelSpreading:
    """Label spreading over the graph with the best cross-validated accuracy."""

    def __init__(self, config: Config, *, classes: int, seed: int) -> None:
        self.classes = classes
        self.seed = seed
        self.settings: Mapping[str, Any] = {}

    def fit(self, x: FloatArray, labels: IntArray, settings: Mapping[str, Any] | None = None) -> None:
        """Spread the labels over the graph of `settings`, or search the graph first."""
        data = BaselineData(np.asarray(x), np.asarray(labels), self.seed)
        if settings is None:
            metrics = ("euclidean", "cosine") if data.x.shape[1] >= MIN_COSINE_FEATURES else ("euclidean",)
            pairs = itertools.product(_KINDS, metrics)
            self.data, self._graphs = data, {pair: _KINDS[pair[0]](data, pair[1]) for pair in pairs}
            settings = self.settings_without(NO_ROWS)
            graph = self._graphs[settings["graph"], settings["metric"]]
        else:
            graph = _KINDS[settings["graph"]](data, settings["metric"])
        matrix = graph.affinity_matrix(settings["width"])
        self._shares = self._propagate(graph, matrix, settings["alpha"], data, [data.labelled])[:, 0]
        self._graph = graph
        self.settings = {**settings, "rows": len(graph.rows)}

    def predict_proba(self, x: FloatArray) -> FloatArray:
        """Average the class shares of the nodes around each row."""
        return self._graph.predict(self.settings["width"], self._shares, np.asarray(x))

    def settings_without(self, rows: Index) -> Mapping[str, Any]:
        """See `flowgmm_cli.baselines.base.ChoosesSettings`."""
        data, graphs = self.data, self._graphs.values()
        candidates = [
            (graph, *pair) for graph in graphs for pair in itertools.product(graph.widths, graph.alphas)
        ]

        @lru_cache(maxsize=1)  # candidates come graph by graph, and a matrix may be dense
        def affinity_matrix(graph: Graph, width: float) -> Any:
            return graph.affinity_matrix(width)

        def predict(candidate: tuple[Graph, float, float]) -> FloatArray:
            graph, width, alpha = candidate
            sets = [fit_rows for fit_rows, _ in data.splits]
            shares = self._propagate(graph, affinity_matrix(graph, width), alpha, data, sets)
            nodes = [np.searchsorted(graph.rows, held_out) for _, held_out in data.splits]
            return np.concatenate([shares[index, split] for split, index in enumerate(nodes)])

        graph, width, alpha = data.search(candidates, predict, candidates[0], ignore=rows)
        return {"graph": graph.name, "metric": graph.metric, "width": width, "alpha": alpha}

    def _propagate(
        self, graph: Graph, matrix: Any, alpha: float, data: BaselineData, sets: Sequence[Index]
    ) -> FloatArray:
        """Return class shares `(n, len(sets), K)`: each set of labels is independent, in one product."""
        start = np.zeros((len(graph.rows), len(sets), self.classes), dtype=np.float32)
        for index, labelled in enumerate(sets):
            labelled = np.intersect1d(labelled, graph.rows)
            start[np.searchsorted(graph.rows, labelled), index, data.labels[labelled]] = 1
        return normalise_rows(propagate_labels(matrix, start, alpha=alpha))


def _scale_rows(x: npt.NDArray[np.float32], metric: str) -> npt.NDArray[np.float32]:
    """Scale rows to length 1 for the cosine, which has the order of the distance between such rows."""
    if metric == "euclidean":
        return x
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), TINY))


def sample_rows(data: BaselineData, limit: int) -> Index:
    """Draw at most `limit` training rows, ascending: first the tuning rows, then other labelled rows."""
    rng, tuning = data.rng(), data.tuning_rows
    labelled = rng.permutation(np.setdiff1d(data.labelled, tuning))
    rows = np.concatenate([tuning, labelled, rng.permutation(data.unlabelled)])
    return np.sort(rows[: max(limit, len(tuning))])

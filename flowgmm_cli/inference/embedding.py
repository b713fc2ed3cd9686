"""Vectors of rows, with a two-dimensional map of them: the columns of `embed`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from flowgmm_cli.errors import PluginError, UsageError
from flowgmm_cli.inference.scoring import ScoredRows

if TYPE_CHECKING:
    import numpy.typing as npt

    Matrix = npt.NDArray[np.floating[Any]]
    Columns = dict[str, npt.NDArray[Any]]

Space = Literal["latent", "input"]
MapMethod = Literal["pca", "tsne", "umap"]
FIT_ROWS = 10_000
"""Number of first rows to which the axes of a PCA map are fitted."""
MAX_MAP_ROWS = 20_000
"""Most rows of a t-SNE or UMAP map, which needs all of them in memory."""


class PrincipalPlane:
    """Projection to the two directions of largest variance of rows `(N, D)`.

    `axes` are orthonormal `(D, 2)`, and the largest entry of each is positive; for D = 1 the second is zero.
    """

    def __init__(self, rows: Matrix) -> None:
        rows = rows.astype(np.float64)
        self.mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        _, vectors = np.linalg.eigh((rows - self.mean).T @ (rows - self.mean))
        best = vectors[:, ::-1][:, :2]
        best = best * np.sign(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])])
        self.axes = np.pad(best, ((0, 0), (0, 2 - best.shape[1])))

    def __call__(self, rows: Matrix) -> Matrix:
        """Project rows `(N, D)` to coordinates `(N, 2)`; a row of NaN has NaN."""
        return np.asarray((rows - self.mean) @ self.axes)


def check_map(method: str | None) -> MapMethod | None:
    """Return the map method of that name, or None.

    Raises:
        PluginError: its library is not installed.
        UsageError: there is no such method.
    """
    methods: dict[str, MapMethod] = {"pca": "pca", "tsne": "tsne", "umap": "umap"}
    if method is None:
        return None
    if method not in methods:
        raise UsageError(f"--map is pca, tsne or umap, not `{method}`", hint="--map pca")
    if method == "umap" and find_spec("umap") is None:
        raise PluginError("--map umap needs the package umap-learn", hint="pip install umap-learn")
    return methods[method]


def embedding_columns(
    stream: Iterator[ScoredRows], space: Space, method: MapMethod | None
) -> Iterator[tuple[ScoredRows, Columns]]:
    """Yield scored rows with their columns `id`, `z` and, with a map, `map_0` and `map_1`; in order.

    A PCA map waits for `FIT_ROWS` rows to fit its axes, and then streams. The other maps need all rows first.

    Raises:
        PluginError: the library of the map is not installed.
        UsageError: there are too many rows for the map.
    """
    if method is None:
        for scored in stream:
            yield scored, {"id": scored.ids, "z": vectors_of(scored, space)}
    elif method == "pca":
        yield from _pca_columns(stream, space)
    else:
        yield from _neighbour_map_columns(stream, space, method)


def vectors_of(scored: ScoredRows, space: Space) -> Matrix:
    """Return the vectors of rows in a space, float32 `(N, D)`; NaN where a row could not be scored."""
    vectors = scored.z if space == "latent" else scored.x
    if vectors is None:
        raise ValueError(f"the rows were scored without vectors of the {space} space")
    return vectors


def _pca_columns(stream: Iterator[ScoredRows], space: Space) -> Iterator[tuple[ScoredRows, Columns]]:
    waiting: list[ScoredRows] = []
    count = 0
    for scored in stream:
        waiting.append(scored)
        count += int(scored.scorable.sum())
        if count >= FIT_ROWS:
            break
    if waiting:
        plane = PrincipalPlane(_scorable_vectors(waiting, space)[:FIT_ROWS])
        for scored in chain(waiting, stream):
            yield scored, _columns(scored, space, plane(vectors_of(scored, space)))


def _neighbour_map_columns(
    stream: Iterator[ScoredRows], space: Space, method: MapMethod
) -> Iterator[tuple[ScoredRows, Columns]]:
    check_map(method)
    chunks: list[ScoredRows] = []
    for scored in stream:
        chunks.append(scored)
        if sum(map(len, chunks)) > MAX_MAP_ROWS:
            raise UsageError(
                f"--map {method} needs all rows in memory and takes at most {MAX_MAP_ROWS:,} of them",
                hint="--map pca has no limit; or give fewer rows",
            )
    vectors = _scorable_vectors(chunks, space) if chunks else np.empty((0, 0))
    coordinates = _map(vectors, method) if len(vectors) else vectors
    start = 0
    for scored in chunks:
        points = np.full((len(scored), 2), np.nan)
        stop = start + int(scored.scorable.sum())
        points[scored.scorable] = coordinates[start:stop, :2]
        yield scored, _columns(scored, space, points)
        start = stop


def _scorable_vectors(chunks: list[ScoredRows], space: Space) -> Matrix:
    return np.concatenate([vectors_of(scored, space)[scored.scorable] for scored in chunks])


def _columns(scored: ScoredRows, space: Space, coordinates: Matrix) -> Columns:
    x, y = coordinates.astype(np.float32).T
    return {"id": scored.ids, "z": vectors_of(scored, space), "map_0": x, "map_1": y}


def _map(rows: Matrix, method: MapMethod) -> Matrix:
    if len(rows) < 4 or (method == "tsne" and rows.shape[1] < 2):  # too few for neighbourhoods
        return PrincipalPlane(rows)(rows)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(rows) - 1) / 3)
        projection = TSNE(2, init="pca", perplexity=perplexity, random_state=0)
    else:
        umap = import_module("umap")
        projection = umap.UMAP(n_neighbors=min(15, len(rows) - 1), random_state=0, n_jobs=1)
    return np.asarray(projection.fit_transform(rows))

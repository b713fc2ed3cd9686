"""Two-dimensional maps of vectors: the columns of `embed`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from typing import Literal, get_args

import numpy as np

from flowgmm_cli.data.array_types import Columns, FloatArray
from flowgmm_cli.errors import PluginError, UsageError
from flowgmm_cli.inference.scores import Scores

MapMethod = Literal["pca", "tsne", "umap"]
FIT_ROWS = 10_000
"""Number of first rows to which the axes of a PCA map are fitted."""
MAX_MAP_ROWS = 20_000
"""Most rows of a t-SNE or UMAP map, which needs all of them in memory."""


class PrincipalPlane:
    """Projection to the two directions of largest variance of rows `(N, D)`.

    `axes` are orthonormal `(D, 2)`, and the largest entry of each is positive; for D = 1 the second is zero.
    """

    def __init__(self, rows: FloatArray) -> None:
        rows = rows.astype(np.float64)
        self.mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        _, vectors = np.linalg.eigh((rows - self.mean).T @ (rows - self.mean))
        best = vectors[:, ::-1][:, :2]
        best = best * np.sign(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])])
        self.axes = np.pad(best, ((0, 0), (0, 2 - best.shape[1])))

    def __call__(self, rows: FloatArray) -> FloatArray:
        """Project rows `(N, D)` to coordinates `(N, 2)`; a row of NaN has NaN."""
        return np.asarray((rows - self.mean) @ self.axes)


def check_map(method: str | None) -> None:
    """Check the name of a map method; None is no map.

    Raises:
        PluginError: its library is not installed.
        UsageError: there is no such method.
    """
    if method not in (None, *get_args(MapMethod)):
        raise UsageError(f"--map is pca, tsne or umap, not `{method}`", hint="--map pca")
    if method == "umap" and find_spec("umap") is None:
        raise PluginError("--map umap needs the package umap-learn", hint="pip install umap-learn")


def embedding_columns(stream: Iterator[Scores], method: MapMethod | None) -> Iterator[tuple[Scores, Columns]]:
    """Yield scored rows with their columns `id`, `z` and, with a map, `map_0` and `map_1`; in order.

    A PCA map waits for `FIT_ROWS` rows to fit its axes, and then streams. The other maps need all rows first.

    Raises:
        PluginError: the library of the map is not installed.
        UsageError: there are too many rows for the map.
    """
    if method is None:
        for scores in stream:
            yield scores, {"id": scores.ids, "z": _vectors(scores)}
        return
    waiting, count = list[Scores](), 0
    for scores in stream:
        waiting.append(scores)
        count += int(scores.scorable.sum()) if method == "pca" else len(scores)
        if method == "pca" and count >= FIT_ROWS:
            break
        if method != "pca" and count > MAX_MAP_ROWS:
            raise UsageError(
                f"--map {method} needs all rows in memory and takes at most {MAX_MAP_ROWS:,} of them",
                hint="--map pca has no limit; or give fewer rows",
            )
    if not waiting:
        return
    vectors = np.concatenate([_vectors(scores)[scores.scorable] for scores in waiting])
    start, points = waiting[0].start, np.empty((0, 2))
    plane = PrincipalPlane(vectors[:FIT_ROWS]) if method == "pca" else None
    if plane is None:
        points = np.full((sum(map(len, waiting)), 2), np.nan)
        if len(vectors):
            points[np.concatenate([scores.scorable for scores in waiting])] = map_rows(vectors, method)[:, :2]
    for scores in chain(waiting, stream):
        z = _vectors(scores)
        x, y = (plane(z) if plane else points[scores.start - start :][: len(z)]).astype(np.float32).T
        yield scores, {"id": scores.ids, "z": z, "map_0": x, "map_1": y}


def _vectors(scores: Scores) -> FloatArray:
    if scores.vectors is None:
        raise ValueError("the rows were scored without vectors")
    return scores.vectors


def map_rows(rows: FloatArray, method: MapMethod) -> FloatArray:
    """Map rows `(N, D)` to a plane, `(N, 2)` or the first two of more coordinates."""
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

"""Vectors of rows, with a two-dimensional map of them: the columns of `embed`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class PrincipalPlane:
    """Two principal axes.

    Attributes:
        mean: `(D,)`.
        axes: orthonormal `(D, 2)`; for D = 1 the second axis is zero.
    """

    mean: Matrix
    axes: Matrix

    @classmethod
    def fit(cls, rows: Matrix) -> PrincipalPlane:
        """Find the directions of largest variance of rows `(N, D)`; the largest entry of each is positive."""
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
        axes = np.zeros((rows.shape[1], 2))
        best = vectors[:, ::-1][:, :2]
        best = best * np.sign(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])])
        axes[:, : best.shape[1]] = best
        return cls(mean, axes)

    def __call__(self, rows: Matrix) -> Matrix:
        """Project rows `(N, D)` to coordinates `(N, 2)`; a row of NaN has NaN."""
        coordinates: Matrix = (rows - self.mean) @ self.axes
        return coordinates


def check_map(method: str | None) -> MapMethod | None:
    """Return the map method of that name, or None.

    Raises:
        PluginError: its library is not installed.
        UsageError: there is no such method.
    """
    if method is None:
        return None
    if method == "umap":
        from importlib.util import find_spec

        if find_spec("umap") is None:
            raise PluginError("--map umap needs the package umap-learn", hint="pip install umap-learn")
    elif method not in ("pca", "tsne"):
        raise UsageError(f"--map is pca, tsne or umap, not `{method}`", hint="--map pca")
    return method  # type: ignore[return-value]


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
    if not waiting:
        return
    plane = PrincipalPlane.fit(_scorable_vectors(waiting, space)[:FIT_ROWS])
    for chunks in (waiting, stream):
        for scored in chunks:
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
    if not chunks:
        return
    scorable = np.concatenate([scored.scorable for scored in chunks])
    vectors = _scorable_vectors(chunks, space)
    coordinates = np.full((len(scorable), 2), np.nan)
    if len(vectors):
        coordinates[scorable] = _tsne(vectors) if method == "tsne" else _umap(vectors)
    start = 0
    for scored in chunks:
        yield scored, _columns(scored, space, coordinates[start : start + len(scored)])
        start += len(scored)


def _scorable_vectors(chunks: list[ScoredRows], space: Space) -> Matrix:
    return np.concatenate([vectors_of(scored, space)[scored.scorable] for scored in chunks])


def _columns(scored: ScoredRows, space: Space, coordinates: Matrix) -> Columns:
    x, y = coordinates.astype(np.float32).T
    return {"id": scored.ids, "z": vectors_of(scored, space), "map_0": x, "map_1": y}


def _tsne(rows: Matrix) -> Matrix:
    if len(rows) < 4 or rows.shape[1] < 2:  # too few for neighbourhoods
        return PrincipalPlane.fit(rows)(rows)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    coordinates: Matrix = TSNE(2, init="pca", perplexity=perplexity, random_state=0).fit_transform(rows)
    return coordinates


def _umap(rows: Matrix) -> Matrix:
    if len(rows) < 4:
        return PrincipalPlane.fit(rows)(rows)
    from importlib import import_module

    umap = import_module("umap").UMAP(n_neighbors=min(15, len(rows) - 1), random_state=0, n_jobs=1)
    coordinates: Matrix = umap.fit_transform(rows)
    return coordinates

"""The answer of `embed`: vectors per row, with a map of two dimensions if asked for."""

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
"""The axes of a PCA map are those of the first so many rows."""
MAP_ROWS = 20_000
"""t-SNE and UMAP place rows beside each other, so all of them are in memory at once: at most this many."""


@dataclass(frozen=True)
class PrincipalPlane:
    """Two principal axes.

    Attributes:
        mean: `(D,)`.
        axes: orthonormal `(D, 2)`; a single dimension has one axis, and the second coordinate is 0.
    """

    mean: Matrix
    axes: Matrix

    @classmethod
    def fit(cls, rows: Matrix) -> PrincipalPlane:
        """The directions in which rows `(N, D)` vary most; the largest entry of each is positive."""
        rows = rows.astype(np.float64)
        mean = rows.mean(axis=0) if len(rows) else np.zeros(rows.shape[1])
        _, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean))
        axes = np.zeros((rows.shape[1], 2))
        best = vectors[:, ::-1][:, :2]
        best = best * np.sign(best[np.abs(best).argmax(axis=0), np.arange(best.shape[1])])
        axes[:, : best.shape[1]] = best
        return cls(mean, axes)

    def __call__(self, rows: Matrix) -> Matrix:
        """Coordinates `(N, 2)` of rows `(N, D)`; a row of NaN has NaN."""
        found: Matrix = (rows - self.mean) @ self.axes
        return found


def vectors_of(scored: ScoredRows, space: Space) -> Matrix:
    """The vectors of rows, float32 `(N, D)`; NaN where a row could not be scored."""
    found = scored.z if space == "latent" else scored.x
    if found is None:
        raise ValueError(f"the rows were scored without vectors of the {space} space")
    return found


def embedding_columns(
    stream: Iterator[ScoredRows], space: Space, kind: MapMethod | None
) -> Iterator[tuple[ScoredRows, Columns]]:
    """Rows with their columns `id`, `z` and, of a map, `map_0` and `map_1`; in order.

    A PCA map holds the first `FIT_ROWS` rows back to fit its axes, and then streams. The other maps hold all.

    Raises:
        PluginError: the library of the map is not installed.
        UsageError: too many rows for such a map.
    """
    if kind is None:
        for scored in stream:
            yield scored, {"id": scored.ids, "z": vectors_of(scored, space)}
    elif kind == "pca":
        yield from _pca(stream, space)
    else:
        yield from _neighbours(stream, space, kind)


def _pca(stream: Iterator[ScoredRows], space: Space) -> Iterator[tuple[ScoredRows, Columns]]:
    held: list[ScoredRows] = []
    plane: PrincipalPlane | None = None
    for scored in stream:
        held.append(scored)
        if plane is None and sum(int(one.good.sum()) for one in held) < FIT_ROWS:
            continue
        plane = plane or _plane(held, space)
        for one in held:
            yield one, _mapped(one, space, plane(vectors_of(one, space)))
        held = []
    if held:
        plane = plane or _plane(held, space)
        for one in held:
            yield one, _mapped(one, space, plane(vectors_of(one, space)))


def _plane(held: list[ScoredRows], space: Space) -> PrincipalPlane:
    rows = np.concatenate([vectors_of(one, space)[one.good] for one in held])
    return PrincipalPlane.fit(rows[:FIT_ROWS])


def _neighbours(
    stream: Iterator[ScoredRows], space: Space, kind: MapMethod
) -> Iterator[tuple[ScoredRows, Columns]]:
    check_map(kind)
    held: list[ScoredRows] = []
    for scored in stream:
        held.append(scored)
        if sum(map(len, held)) > MAP_ROWS:
            raise UsageError(
                f"--map {kind} places rows beside each other and takes at most {MAP_ROWS:,} of them",
                hint="--map pca has no limit; or give fewer rows",
            )
    if not held:
        return
    good = np.concatenate([one.good for one in held])
    rows = np.concatenate([vectors_of(one, space)[one.good] for one in held])
    places = np.full((len(good), 2), np.nan)
    if len(rows):
        places[good] = _tsne(rows) if kind == "tsne" else _umap(rows)
    start = 0
    for one in held:
        yield one, _mapped(one, space, places[start : start + len(one)])
        start += len(one)


def check_map(kind: str | None) -> MapMethod | None:
    """The map of that name, or None.

    Raises:
        PluginError: its library is not installed.
        UsageError: there is no such map.
    """
    if kind is None:
        return None
    if kind == "umap":
        from importlib.util import find_spec

        if find_spec("umap") is None:
            raise PluginError("--map umap needs the package umap-learn", hint="pip install umap-learn")
    elif kind not in ("pca", "tsne"):
        raise UsageError(f"--map is pca, tsne or umap, not `{kind}`", hint="--map pca")
    return kind  # type: ignore[return-value]


def _mapped(scored: ScoredRows, space: Space, places: Matrix) -> Columns:
    places = places.astype(np.float32)
    return {
        "id": scored.ids,
        "z": vectors_of(scored, space),
        "map_0": places[:, 0],
        "map_1": places[:, 1],
    }


def _tsne(rows: Matrix) -> Matrix:
    if len(rows) < 4 or rows.shape[1] < 2:  # too few for neighbourhoods
        return PrincipalPlane.fit(rows)(rows)
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(rows) - 1) / 3)
    found: Matrix = TSNE(2, init="pca", perplexity=perplexity, random_state=0).fit_transform(rows)
    return found


def _umap(rows: Matrix) -> Matrix:
    if len(rows) < 4:
        return PrincipalPlane.fit(rows)(rows)
    from importlib import import_module

    maker = import_module("umap").UMAP(n_neighbors=min(15, len(rows) - 1), random_state=0, n_jobs=1)
    found: Matrix = maker.fit_transform(rows)
    return found

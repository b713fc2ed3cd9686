from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.decomposition import PCA

from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference import embedding
from flowgmm_cli.inference.embedding import PrincipalPlane, embedding_columns
from flowgmm_cli.inference.scores import Scores


def piece(z: np.ndarray, start: int = 0) -> Scores:
    scorable = ~np.isnan(z).any(1)
    ids = np.array([str(start + row + 1) for row in range(len(z))], dtype=object)
    nothing = np.full(len(z), -1)
    log_p = np.where(scorable, 0.0, np.nan)[:, None]
    return Scores(ids, nothing, scorable, log_p, z[:, 0], ("a",), vectors=z, start=start)


def pieces(z: np.ndarray, size: int) -> Iterator[Scores]:
    for start in range(0, len(z), size):
        yield piece(z[start : start + size], start)


def rows(n: int, d: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    z: np.ndarray = (rng.normal(size=(n, d)) * np.arange(d, 0, -1) + 3).astype(np.float32)
    return z


def test_the_axes_are_those_of_pca() -> None:
    z = rows(200)
    plane = PrincipalPlane(z)
    truth = PCA(2).fit(z)
    assert np.allclose(np.abs(truth.components_ @ plane.axes), np.eye(2), atol=1e-5)
    assert np.allclose(np.abs(plane(z)), np.abs(truth.transform(z)), atol=1e-4)
    largest = np.abs(plane.axes).argmax(0)
    assert (plane.axes[largest, [0, 1]] > 0).all()
    # the second coordinate of a single dimension is 0
    assert np.array_equal(PrincipalPlane(rows(9, 1))(rows(9, 1))[:, 1], np.zeros(9))


@pytest.mark.parametrize("size", [1, 7, 100])
def test_pca_axes_are_fitted_to_the_first_rows(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(embedding, "FIT_ROWS", 20)
    z = rows(100)
    z[4] = np.nan
    found = list(embedding_columns(pieces(z, size), "pca"))
    assert [row for _, columns in found for row in columns["id"]] == [str(row + 1) for row in range(100)]
    places = np.concatenate([np.stack([c["map_0"], c["map_1"]], 1) for _, c in found])
    first = np.delete(z[:21], 4, axis=0)
    assert np.isnan(places[4]).all()
    assert np.allclose(np.delete(places, 4, 0), PrincipalPlane(first)(np.delete(z, 4, 0)), atol=1e-4)


def test_a_pca_map_streams_once_its_axes_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "FIT_ROWS", 20)
    taken: list[int] = []

    def counted() -> Iterator[Scores]:
        for one in pieces(rows(100), 10):
            taken.append(one.start)
            yield one

    stream = embedding_columns(counted(), "pca")
    next(stream)
    assert taken == [0, 10]


def test_tsne_keeps_groups_apart_and_missing_rows_in_place() -> None:
    z = np.concatenate([rows(30), rows(30, seed=1) + 60])
    z[7] = np.nan
    found = list(embedding_columns(pieces(z, 16), "tsne"))
    places = np.concatenate([np.stack([c["map_0"], c["map_1"]], 1) for _, c in found])
    assert np.flatnonzero(np.isnan(places).any(1)).tolist() == [7]
    first, second = np.delete(places[:30], 7, 0), places[30:]
    between = np.linalg.norm(first.mean(0) - second.mean(0))
    assert between > 2 * max(first.std(0).max(), second.std(0).max())


@pytest.mark.parametrize("n", [0, 1, 3])
def test_maps_of_few_rows_have_a_point_for_each_row(n: int) -> None:
    for kind in ("pca", "tsne"):
        found = list(embedding_columns(pieces(rows(n), 2), kind))
        assert sum(len(columns["map_0"]) for _, columns in found) == n


def test_too_many_rows_for_tsne(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MAX_MAP_ROWS", 25)
    with pytest.raises(UsageError, match="at most 25") as caught:
        list(embedding_columns(pieces(rows(40), 10), "tsne"))
    assert "--map pca" in str(caught.value.hint)

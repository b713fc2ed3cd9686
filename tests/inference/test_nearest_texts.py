"""Texts near to vectors."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.api import Column, DataContext, Rows
from flowgmm_cli.data.feature_encoder import FeatureEncoder
from flowgmm_cli.inference.samples import nearest_text_columns, nearest_texts

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(50, 6)).astype(np.float32) + 2
TEXT, HEIGHT = Column("text", "text"), Column("height", "numeric")


class Table:
    """An encoder that knows the vector of each text by its number."""

    dim = 6

    def fit(self, texts: list[str]) -> None: ...

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([VECTORS[int(text)] for text in texts]).reshape(-1, 6)

    def cache_key(self) -> None:
        return None

    def state(self) -> tuple[dict[str, object], dict[str, np.ndarray]]:
        return {}, {}


def rows() -> Rows:
    texts = np.array([str(index) for index in range(50)], dtype=object)
    ids = np.array([f"train:{index}" for index in range(50)])
    return Rows({"height": np.arange(50.0), "text": texts}, np.full(50, -1), ids)


@pytest.fixture
def encoder() -> FeatureEncoder:
    return FeatureEncoder.fit(rows(), [HEIGHT, TEXT], missing="error", encoder=Table)


def test_the_nearest_are_those_of_the_smallest_angle_from_the_mean(encoder: FeatureEncoder) -> None:
    asked = np.concatenate([np.zeros((20, 1)), RNG.normal(size=(20, 6)) + 2], axis=1)
    index, distances = nearest_texts(encoder, asked, rows(), "text", DataContext(), k=4)
    mean = VECTORS.mean(0)
    a, b = asked[:, 1:] - mean, VECTORS - mean
    angles = 1 - (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    order = np.argsort(angles, axis=1)[:, :4]
    assert index.tolist() == order.tolist()
    np.testing.assert_allclose(distances, np.take_along_axis(angles, order, 1), atol=1e-5)


def test_a_text_is_nearest_to_itself_when_moved_towards_the_mean(encoder: FeatureEncoder) -> None:
    mean = VECTORS.mean(0)
    for share in (1.0, 0.3, 0.05):  # as samples of a low temperature lie
        asked = np.concatenate([np.zeros((50, 1)), mean + share * (VECTORS - mean)], axis=1)
        index, distances = nearest_texts(encoder, asked, rows(), "text", DataContext(), k=1)
        assert index[:, 0].tolist() == list(range(50))
        np.testing.assert_allclose(distances, 0, atol=1e-4)


def test_chunks_give_the_same_neighbours(encoder: FeatureEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = RNG.normal(size=(7, 7))
    whole = nearest_texts(encoder, asked, rows(), "text", DataContext(), k=2)
    monkeypatch.setattr("flowgmm_cli.inference.samples._TEXTS_AT_ONCE", 3)
    pieces = nearest_texts(encoder, asked, rows(), "text", DataContext(), k=2)
    assert (whole[0] == pieces[0]).all()


def test_columns_are_named_and_there_are_no_more_than_rows(encoder: FeatureEncoder) -> None:
    asked = RNG.normal(size=(3, 7))
    found = nearest_text_columns(encoder, asked, rows(), DataContext(), k=2)
    assert list(found) == ["text", "distance", "text_2", "distance_2"]
    index, _ = nearest_texts(encoder, asked, rows(), "text", DataContext(), k=2)
    assert found["text_2"].tolist() == [str(place) for place in index[:, 1]]
    few = rows().take(np.arange(2))
    assert len(nearest_text_columns(encoder, asked, few, DataContext(), k=9)) == 4
    numbers = FeatureEncoder.fit(rows(), [HEIGHT], missing="error", encoder=None)
    assert nearest_text_columns(numbers, asked[:, :1], rows(), DataContext()) == {}

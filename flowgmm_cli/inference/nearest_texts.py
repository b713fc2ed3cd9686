"""Texts near to vectors that no text has: what a sample of a model of texts is shown by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, iterate_batches
from flowgmm_cli.data.feature_encoder import FeatureEncoder

if TYPE_CHECKING:
    import numpy.typing as npt

_CHUNK = 8192


@dataclass(frozen=True)
class Neighbours:
    """The texts nearest to each of n vectors, nearest first.

    Attributes:
        texts: `(n, k)` strings.
        ids: the rows they are from, `(n, k)`.
        distances: `(n, k)`, from 0 (the same direction) to 2.
    """

    texts: npt.NDArray[Any]
    ids: npt.NDArray[Any]
    distances: npt.NDArray[np.float64]


def nearest_texts(
    feature_encoder: FeatureEncoder,
    features: npt.NDArray[np.float64],
    rows: Rows,
    column: Column,
    context: DataContext,
    *,
    k: int = 3,
) -> Neighbours:
    r"""Find the texts of `rows` that are nearest to made rows.

    The distance is 1 minus the cosine of the angle between the encoder's vectors, seen from the mean vector
    of `rows`:

    .. math:: 1 - \cos(e - m, e_i - m)

    Not the Euclidean distance: what is drawn from a Gaussian, of a low temperature above all, is nearer to
    the texts around the mean than to those of its own direction, so that the same few long, general texts
    would be nearest to most samples ("hubs", Radovanović et al., 2010), of whatever class; taking the mean
    away and comparing directions is the remedy (Suzuki et al., 2013). And in the encoder's space, where a
    column of texts beside other columns has a place of its own.

    Args:
        feature_encoder: of the model.
        features: feature matrix of the made rows, `(n, F)`.
        rows: where the texts are from, such as the training rows.
        column: the column of texts.
        context: surroundings of the encoder.
        k: how many for each; at most the number of rows.
    """
    place = {one.name: part for one, part in feature_encoder.layout}[column.name]
    vectors = np.empty((len(rows), place.stop - place.start), np.float32)
    for part in iterate_batches(len(rows), _CHUNK):
        vectors[part] = feature_encoder.transform_column(
            column.name, rows.take(np.arange(len(rows))[part]), context
        )
    centre = vectors.mean(axis=0, dtype=np.float64)
    known = _directions(vectors - centre.astype(np.float32))
    asked = _directions((features[:, place] - centre).astype(np.float32))
    k = min(k, len(rows))
    index = np.empty((len(asked), k), np.int64)
    cosine = np.empty((len(asked), k))
    for part in iterate_batches(len(asked), max(1, 2**24 // max(1, len(rows)))):
        found = asked[part] @ known.T
        best = np.argpartition(-found, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(found, best, axis=1)
        order = np.lexsort((best, -values), axis=1)  # of equals the first row
        index[part] = np.take_along_axis(best, order, axis=1)
        cosine[part] = np.take_along_axis(values, order, axis=1)
    texts = np.array(["" if cell is None else str(cell) for cell in rows.columns[column.name]], dtype=object)
    return Neighbours(texts[index], rows.ids[index], np.clip(1 - cosine, 0, 2))


def _directions(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: npt.NDArray[np.float32] = vectors / np.maximum(length, np.finfo(np.float32).tiny)
    return directions


def text_columns(
    feature_encoder: FeatureEncoder,
    features: npt.NDArray[np.float64],
    rows: Rows,
    context: DataContext,
    *,
    k: int = 3,
) -> dict[str, npt.NDArray[Any]]:
    """The nearest texts as columns of a table: `<column>`, `distance`, `<column>_2`, `distance_2`, ...

    Nothing where the model reads no texts; arguments as for `nearest_texts`.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    columns = [column for column in feature_encoder.columns if column.kind == "text"]
    for column in columns:
        near = nearest_texts(feature_encoder, features, rows, column, context, k=k)
        distance = "distance" if len(columns) == 1 else f"{column.name}_distance"
        for place in range(near.texts.shape[1]):
            suffix = f"_{place + 1}" if place else ""
            found[f"{column.name}{suffix}"] = near.texts[:, place]
            found[f"{distance}{suffix}"] = near.distances[:, place]
    return found

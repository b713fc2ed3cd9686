"""Texts nearest to generated vectors, which stand for samples of a model of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import normalize

from flowgmm_cli.api import DataContext, Rows, iterate_batches
from flowgmm_cli.data.feature_encoder import FeatureEncoder

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

_CHUNK_ROWS = 8192
_MAX_COSINES = 2**24  # numbers of a block of the matrix of cosines


def nearest_text_columns(
    feature_encoder: FeatureEncoder, features: Floats, rows: Rows, context: DataContext, *, k: int = 3
) -> dict[str, npt.NDArray[Any]]:
    """Return the nearest texts as columns: `<column>`, `distance`, `<column>_2`, `distance_2`, ...

    The result is empty if the model reads no texts; arguments as for `nearest_texts`.
    """
    table: dict[str, npt.NDArray[Any]] = {}
    names = [column.name for column in feature_encoder.columns if column.kind == "text"]
    for name in names:
        index, distances = nearest_texts(feature_encoder, features, rows, name, context, k=k)
        texts = np.array(["" if cell is None else str(cell) for cell in rows.columns[name]], dtype=object)
        distance = "distance" if len(names) == 1 else f"{name}_distance"
        for place in range(index.shape[1]):
            suffix = f"_{place + 1}" if place else ""
            table[f"{name}{suffix}"] = texts[index[:, place]]
            table[f"{distance}{suffix}"] = distances[:, place]
    return table


def nearest_texts(
    feature_encoder: FeatureEncoder,
    features: Floats,
    rows: Rows,
    column: str,
    context: DataContext,
    *,
    k: int = 3,
) -> tuple[npt.NDArray[np.int64], Floats]:
    r"""Find the texts of `rows` that are nearest to generated rows.

    The distance is 1 minus the cosine of the encoder's vectors, relative to the mean vector of `rows`:

    .. math:: 1 - \cos(e - m, e_i - m)

    A Euclidean distance would not do: samples of a Gaussian, above all of a low temperature, are nearer to
    the texts around the mean than to those of their own direction, so the same few long, general texts would
    be nearest to most samples ("hubs", Radovanović et al., 2010), of whichever class. Centring and comparing
    directions is the remedy (Suzuki et al., 2013). The encoder's space is used since a column of texts beside
    other columns occupies only some of the features.

    Args:
        feature_encoder: feature_encoder of the model.
        features: feature matrix of the n generated rows, `(n, F)`.
        rows: rows with the texts, such as the training rows.
        column: name of the column of texts.
        context: context of the encoder.
        k: number of texts for each; at most the number of rows.

    Returns:
        Positions of the texts in `rows`, nearest first, and distances from 0 (the same direction) to 2, both
        `(n, k)`.
    """
    place = {other.name: part for other, part in feature_encoder.layout}[column]
    vectors = np.empty((len(rows), place.stop - place.start), np.float32)
    for part in iterate_batches(len(rows), _CHUNK_ROWS):
        chunk = rows.take(np.arange(len(rows))[part])
        vectors[part] = feature_encoder.transform_column(column, chunk, context)
    mean = vectors.mean(axis=0, dtype=np.float64)
    known = normalize(vectors - mean.astype(np.float32))
    queries = normalize((features[:, place] - mean).astype(np.float32))
    k = min(k, len(rows))
    index = np.empty((len(queries), k), np.int64)
    cosine = np.empty((len(queries), k))
    for part in iterate_batches(len(queries), max(1, _MAX_COSINES // max(1, len(rows)))):
        cosines = queries[part] @ known.T
        best = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(cosines, best, axis=1)
        order = np.lexsort((best, -values), axis=1)  # the first row of equal ones
        index[part] = np.take_along_axis(best, order, axis=1)
        cosine[part] = np.take_along_axis(values, order, axis=1)
    return index, np.clip(1 - cosine, 0, 2)

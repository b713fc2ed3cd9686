"""Rows worth looking at: the densest, the least dense, the most doubtful, and rows by score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.api import DataContext, Rows
from flowgmm_cli.data.readers.base import MemoryReader
from flowgmm_cli.inference.gallery import (
    RowStatistics,
    compute_row_statistics,
    positions_by_quantile,
    select_extremes,
    select_uncertain,
)
from flowgmm_cli.inference.inputs import read_rows_at

TOLD = RowStatistics(
    classes=np.array([0, 1, 0, 0, 1, 0]),
    predicted=np.array([0, 1, 1, 0, 1, 0]),
    log_density=np.array([-1.0, -9.0, -5.0, -2.0, -3.0, np.nan]),
    entropy=np.array([0.1, 0.2, 0.6, 0.0, 0.5, 0.3]),
)


def test_typical_and_odd_rows_are_the_densest_and_least_dense_of_a_class() -> None:
    assert [rows.tolist() for rows in select_extremes(TOLD, 0, 1)] == [[0], [2]]
    assert [rows.tolist() for rows in select_extremes(TOLD, 0, 9)] == [[0, 3], [2]]
    assert len(select_extremes(TOLD, 2, 3)[0]) == 0
    assert select_uncertain(TOLD, 2).tolist() == [2, 4]


@pytest.mark.parametrize("members", [1, 2])
def test_densities_are_those_of_the_class_and_entropies_those_of_scipy(
    make_trained: Any, members: int
) -> None:
    from scipy.stats import entropy

    trained = make_trained("data.transforms=[{use: standardise}]", members=members)
    for part in trained.model.parts:
        part.mixture.set_weights(torch.tensor([1.0, 4.0]))
    from flowgmm_cli.data.prepare import load_rows

    rows = load_rows(trained.recipe.data, DataContext()).test
    assert rows is not None
    labels = rows.labels.copy()
    labels[:5] = -1
    split = trained.preprocessor.apply(Rows(rows.columns, labels, rows.ids), DataContext())
    predicted = trained.encode_rows(split)
    told = compute_row_statistics(trained.model, predicted, labels)
    assert told.classes[:5].tolist() == predicted.log_posterior[:5].argmax(1).tolist()
    assert told.classes[5:].tolist() == labels[5:].tolist()
    np.testing.assert_allclose(told.entropy, entropy(predicted.log_posterior.exp(), axis=1), atol=1e-9)
    found = []
    with torch.no_grad():
        for part in trained.model.parts:
            z, log_det = part.flow(split.x)
            means, scales = part.mixture.moments()
            normal = torch.distributions.Normal(means[told.classes], scales[told.classes])
            found.append(normal.log_prob(z).sum(1) + log_det + split.log_det)
    np.testing.assert_allclose(told.log_density, torch.stack(found).mean(0).numpy(), rtol=1e-4, atol=1e-3)


@given(st.lists(st.floats(-5, 5), min_size=0, max_size=60), st.integers(1, 8))
def test_quantile_groups_are_ascending_and_disjoint(values: list[float], each: int) -> None:
    scores = np.array(values, dtype=np.float64)
    lots = positions_by_quantile(scores, each)
    places = np.concatenate(lots).tolist()
    assert len(set(places)) == len(places)
    shown = scores[places]
    assert (np.diff(shown) >= 0).all()
    if len(values):
        assert (shown[0], shown[-1]) == (scores.min(), scores.max())
    if len(values) >= 5 * each:
        assert [len(lot) for lot in lots] == [each] * 5
        middle = scores[lots[2]]
        assert middle.min() <= np.median(scores) <= middle.max() or each % 2 == 0 or len(values) % 2 == 0


@pytest.mark.parametrize("chunk_rows", [2, 7, 100])
def test_rows_are_read_by_position(chunk_rows: int) -> None:
    ids = np.array([f"r{place}" for place in range(20)], dtype=object)
    rows = Rows({"a": np.arange(20.0)}, np.full(20, -1), ids)
    reader = MemoryReader(rows, "rows", chunk_rows=chunk_rows)
    found = read_rows_at(reader, np.array([13, 0, 13, 7]))
    assert found.ids.tolist() == ["r13", "r0", "r13", "r7"]
    assert found.columns["a"].tolist() == [13, 0, 13, 7]

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.semi_supervised import LabelSpreading as Reference

from flowgmm_cli.api import Config
from flowgmm_cli.baselines.label_spreading import KernelGraph, LabelSpreading, NeighbourGraph, sample_rows
from flowgmm_cli.evaluation.cross_validation import BaselineData
from flowgmm_cli.neighbours import normalise_rows, propagate_labels


def moons(n: int = 400, labelled: int = 10, seed: int = 0) -> tuple[BaselineData, np.ndarray, np.ndarray]:
    x, y = make_moons(n + 200, noise=0.08, random_state=seed)
    labels = np.full(n, -1)
    labels[:labelled] = y[:labelled]
    train, test = x[:n].astype(np.float32), x[n:].astype(np.float32)
    return BaselineData(train, labels.astype(np.int64), seed), test, y[n:]


def spread(data: BaselineData, x_test: np.ndarray, classes: int = 2) -> tuple[np.ndarray, dict[str, Any]]:
    baseline = LabelSpreading(Config(), classes=classes, seed=data.seed)
    baseline.fit(data.x, data.labels)
    return baseline.predict_proba(x_test), dict(baseline.settings)


def test_twenty_labels_separate_two_moons() -> None:
    data, test, truth = moons(labelled=20)
    probabilities, settings = spread(data, test)
    assert probabilities.shape == (200, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert (probabilities.argmax(1) == truth).mean() > 0.97
    assert settings["rows"] == 400


def test_the_kernel_agrees_with_scikit_learn() -> None:
    data, test, _ = moons(150)
    graph = KernelGraph(data)
    width, alpha = 30.0, 0.5
    reference = Reference(kernel="rbf", gamma=width / graph.median, alpha=alpha, max_iter=500, tol=1e-9)
    reference.fit(data.x, data.labels)
    start = np.zeros((150, 2), dtype=np.float32)
    start[data.labelled, data.labels[data.labelled]] = 1
    mass = propagate_labels(graph.affinity_matrix(width), start, alpha=alpha, iterations=500)
    shares = normalise_rows(mass)
    np.testing.assert_allclose(shares, reference.label_distributions_, atol=0.02)
    np.testing.assert_allclose(graph.predict(width, shares, test), reference.predict_proba(test), atol=0.03)


def test_equal_rows_and_far_test_rows_stay_finite() -> None:
    x = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]], dtype=np.float32), 40, axis=0)
    labels = np.full(80, -1)
    labels[[0, 1, 40, 41]] = [0, 0, 1, 1]
    test = np.array([[-1e6, -1e6], [0, 0], [1, 1], [1e6, 1e6]], dtype=np.float32)
    data = BaselineData(x, labels.astype(np.int64), seed=0)
    assert spread(data, test)[0].argmax(1).tolist() == [0, 0, 1, 1]
    for graph in (NeighbourGraph(data), KernelGraph(data)):
        for width in graph.widths:
            assert np.isfinite(graph.predict(width, np.full((80, 2), 0.5), test)).all()


def test_rows_beyond_the_limit_are_sampled_and_labelled_rows_stay() -> None:
    data, _, _ = moons(400, labelled=10)
    rows = sample_rows(data, 50)
    assert len(rows) == len(set(rows)) == 50
    assert (np.diff(rows) > 0).all()
    assert set(data.labelled) <= set(rows)
    assert np.array_equal(rows, sample_rows(data, 50))


def test_more_labelled_rows_than_a_graph_holds_are_sampled_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm_cli.baselines.label_spreading.MAX_KERNEL_ROWS", 60)
    monkeypatch.setattr("flowgmm_cli.evaluation.cross_validation.MAX_TUNING_ROWS", 40)
    data, test, truth = moons(400, labelled=400)
    assert len(KernelGraph(data).rows) == 60
    probabilities, _ = spread(data, test)
    assert (probabilities.argmax(1) == truth).mean() > 0.9


def test_the_cosine_ignores_the_length_of_rows() -> None:
    rng = np.random.default_rng(0)
    classes = np.arange(300) % 3
    x = rng.normal(size=(3, 12))[classes] + 0.3 * rng.normal(size=(300, 12))
    x = (x * rng.exponential(20, size=(300, 1))).astype(np.float32)
    x[0] = 0  # no direction at all
    labels = np.where(np.arange(300) < 31, classes, -1)
    probabilities, settings = spread(BaselineData(x[:200], labels[:200], seed=0), x[200:], classes=3)
    assert settings["metric"] == "cosine"
    assert (probabilities.argmax(1) == classes[200:]).mean() > 0.95


def test_three_rows_are_enough() -> None:
    x = np.array([[0.0], [1.0], [0.9]], dtype=np.float32)
    probabilities, _ = spread(BaselineData(x, np.array([0, 1, -1]), seed=0), x)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    assert probabilities.argmax(1).tolist()[1:] == [1, 1]

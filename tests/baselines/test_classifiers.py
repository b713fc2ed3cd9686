from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from flowgmm_cli.api import Config
from flowgmm_cli.baselines.classifiers import MLP
from flowgmm_cli.baselines.linear import LDA, ClassCovariance


def test_lda_with_a_fixed_shrinkage_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = rng.normal(size=(90, 4)) + labels[:, None]
    x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)  # equal variances: both shrink to the same sphere
    baseline = LDA(Config(), classes=3, seed=0)
    baseline.fit(x, labels, {"shrinkage": 0.0})
    reference = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.0).fit(x, labels)
    np.testing.assert_allclose(baseline.predict_proba(x), reference.predict_proba(x), atol=1e-4)


@pytest.mark.parametrize("shrinkage", ["ledoit_wolf", 0.5])
def test_equal_rows_have_the_variances_of_all_rows(shrinkage: str | float) -> None:
    covariance = ClassCovariance(shrinkage, np.array([4.0, 9.0])).fit(np.ones((2, 2))).covariance_
    np.testing.assert_allclose(covariance, np.diag([4.0, 9.0]))


def test_a_shrunk_covariance_lies_between_that_of_the_rows_and_a_sphere() -> None:
    x = np.random.default_rng(0).normal(size=(2000, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    covariance = ClassCovariance(0.5, x.var(0)).fit(x).covariance_
    expected = np.cov(x.T, bias=True)
    np.testing.assert_allclose(np.diag(covariance), np.diag(expected), rtol=0.05)
    assert covariance[0, 1] == pytest.approx(expected[0, 1] / 2, rel=1e-6)


def test_the_penalty_of_a_network_does_not_undo_its_fit_where_few_rows_are_left_over() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(240) % 4
    means = rng.normal(size=(4, 384)) * 0.15
    x = (means[labels] + rng.normal(size=(240, 384))).astype(np.float32)
    baseline = MLP(Config(), classes=4, seed=0)
    baseline.fit(x, labels, {"alpha": 100.0})
    assert (baseline.predict_proba(x).argmax(1) == labels).mean() > 0.9

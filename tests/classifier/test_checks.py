"""Scikit-learn's own checks of estimators, all of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from flowgmm_cli import FlowGMMClassifier

# the checks code two classes as -1 and 1 too, which is no mistake there
pytestmark = pytest.mark.filterwarnings("ignore:y holds only -1:UserWarning")


@parametrize_with_checks([FlowGMMClassifier()])
def test_it_is_an_estimator_as_scikit_learn_has_them(
    estimator: FlowGMMClassifier, check: Callable[[FlowGMMClassifier], None]
) -> None:
    check(estimator)

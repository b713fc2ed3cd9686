"""Scikit-learn's own checks of estimators: all of them in a short training, some with the defaults."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from flowgmm_cli import FlowGMMClassifier

Check = Callable[[FlowGMMClassifier], None]

# the checks code two classes as -1 and 1 too, which is no mistake there
pytestmark = pytest.mark.filterwarnings("ignore:y holds only -1:UserWarning")


@parametrize_with_checks([FlowGMMClassifier(hidden=16, max_steps=8)])
def test_a_short_training_passes_scikit_learns_checks(estimator: FlowGMMClassifier, check: Check) -> None:
    check(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["classifiers_train", "classifiers_classes", "fit_idempotent"])
def test_the_defaults_pass_the_checks_of_what_is_learned(name: str) -> None:
    getattr(estimator_checks, f"check_{name}")("FlowGMMClassifier", FlowGMMClassifier())

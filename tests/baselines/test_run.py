from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flowgmm_cli.api import Config
from flowgmm_cli.baselines.classifiers import SVM
from flowgmm_cli.baselines.run import predict_baselines
from flowgmm_cli.baselines.specs import SPECS
from flowgmm_cli.errors import PluginError
from flowgmm_cli.evaluation.metrics import BaselineMetrics, BaselineResult, log_probabilities
from flowgmm_cli.plugins import registry as registries

BROKEN = """
from flowgmm_cli.api import BaselineSpec, Config

class First:
    settings = {}

    def __init__(self, config, *, classes, seed):
        self.classes = classes

    def fit(self, x, labels, settings=None):
        pass

    def predict_proba(self, x):
        import numpy as np
        return np.eye(self.classes)[np.zeros(len(x), dtype=int)]

class Wide(First):
    def predict_proba(self, x):
        return First.predict_proba(self, x)[:, :-1]

class Raising(First):
    def fit(self, x, labels, settings=None):
        raise KeyError("gone")

FIRST = BaselineSpec(config=Config, build="own:First", summary="The first class")
WIDE = BaselineSpec(config=Config, build="own:Wide", summary="A class too few")
RAISING = BaselineSpec(config=Config, build="own:Raising", summary="An error")
"""


def digits(labelled: int = 60, n: int = 600) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = x[order] / 16, y[order]
    labels = np.full(n, -1)
    labels[:labelled] = y[:labelled]
    return x[:n], labels, x[n : n + 400], y[n : n + 400]


def evaluate(
    x: np.ndarray, labels: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, **options: Any
) -> dict[str, BaselineResult]:
    classes = int(max(labels.max(), y_test.max())) + 1
    results = {}
    for name, result in predict_baselines(x, labels, x_test, classes=classes, seed=0, **options).items():
        metrics = vars(BaselineMetrics.measure(log_probabilities(result.probabilities), y_test))
        results[name] = BaselineResult(**metrics, seconds=result.seconds, settings=result.settings)
    return results


@pytest.fixture(scope="module")
def results() -> dict[str, BaselineResult]:
    return evaluate(*digits())


LEAST_ACCURACY = {
    "logistic_regression": 0.80, "knn": 0.75, "label_spreading": 0.84, "self_training": 0.78, "mlp": 0.78,
    "extra_trees": 0.78, "lda": 0.75, "svm": 0.80,
}  # fmt: skip


def test_every_baseline_learns_digits_from_sixty_labels(results: dict[str, BaselineResult]) -> None:
    assert list(results) == list(LEAST_ACCURACY) == list(SPECS)
    for name, result in results.items():
        assert LEAST_ACCURACY[name] < result.accuracy < 1
        assert result.balanced_accuracy == pytest.approx(result.accuracy, abs=0.03)
        assert 0 < result.nll < np.log(10)
        assert 0 <= result.ece < 0.4
        assert result.seconds > 0
        assert json.loads(json.dumps(result.settings)) == result.settings != {}


def test_a_method_whose_time_grows_quickly_is_fitted_to_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SVM, "max_rows", 50)
    x, labels, _, _ = digits(200, 200)
    baseline = SVM(Config(), classes=10, seed=0)
    baseline.fit(x, labels, {"C": 1.0, "gamma_factor": 1.0, "temperature": 1.0})
    assert baseline._model.svc.shape_fit_ == (50, 64)


@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize(("labelled", "least"), [([0, 5, 9, 14, 39], 0.5), ([*range(40)], 0.9)])
def test_a_single_feature_works_with_a_single_label_of_a_class_and_with_all_labels(
    name: str, labelled: list[int], least: float
) -> None:
    x = np.linspace(-1, 1, 40)[:, None]
    y = (x[:, 0] > 0).astype(int)
    labels = np.where(np.isin(np.arange(40), labelled), y, -1)
    assert evaluate(x, labels, x + 1e-3, y, names=[name])[name].accuracy >= least


def test_progress_is_reported_before_each_baseline_and_at_the_end() -> None:
    calls: list[tuple[int, int, str]] = []
    names = ["knn", "logistic_regression"]
    evaluate(*digits(30, 100), names=names, progress=lambda *call: calls.append(call))
    assert calls == [(0, 2, "knn"), (1, 2, "logistic_regression"), (2, 2, "")]


def test_an_unknown_name_and_a_single_class_are_refused() -> None:
    x, labels, x_test, y_test = digits(30, 100)
    with pytest.raises(PluginError, match="unknown baseline `knm`; did you mean `knn`"):
        evaluate(x, labels, x_test, y_test, names=["knm"])
    with pytest.raises(ValueError, match="at least two classes"):
        evaluate(x, np.where(labels == 1, 1, -1), x_test, y_test)


@pytest.fixture
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three baselines in a file, two of them wrong."""
    (tmp_path / "own.py").write_text(BROKEN, encoding="utf-8")
    monkeypatch.setenv("FLOWGMM_PLUGIN_MODULES", str(tmp_path / "own.py"))
    registries.registry.cache_clear()
    yield
    registries.registry.cache_clear()


@pytest.mark.usefixtures("own_file")
def test_a_baseline_of_a_plugin_is_fitted_too_and_a_wrong_one_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, labels, x_test, y_test = digits(30, 100)
    monkeypatch.setattr("flowgmm_cli.baselines.specs.SPECS", {"knn": SPECS["knn"]})
    warnings: list[str] = []
    results = evaluate(x, labels, x_test, y_test, warn=warnings.append)
    assert list(results) == ["knn", "first"]
    assert results["first"].accuracy == np.mean(y_test == 0)
    assert sorted(warnings) == [
        "baseline `raising` from own.py failed; KeyError: 'gone'",
        "baseline `wide` from own.py failed; "
        "ValueError: its probabilities have the shape (400, 9), not (400, 10)",
    ]
    with pytest.raises(PluginError, match=r"`wide` from own\.py failed"):
        evaluate(x, labels, x_test, y_test, names=["wide"])


def test_classes_beyond_the_labels_have_a_column() -> None:
    x, labels, x_test, _ = digits(30, 100)
    result = predict_baselines(x, labels, x_test, classes=12, seed=0, names=["knn"])["knn"]
    assert result.probabilities.shape == (400, 12)

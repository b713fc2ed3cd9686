from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from flowgmm_cli import FlowGMMClassifier
from flowgmm_cli.data.preprocessor import Tensors
from flowgmm_cli.errors import RunError
from flowgmm_cli.trained_model import TrainedModel

Array = npt.NDArray[Any]
QUICK: dict[str, Any] = {"max_steps": 60, "hidden": 16, "random_state": 0}
FEW_STEPS = {**QUICK, "max_steps": 8}


def moons(n: int = 300, labels: int = 5) -> tuple[Array, Array, Array]:
    """Rows, visible labels (so many of each class), true labels."""
    x, true = make_moons(n, noise=0.05, random_state=0)
    y = np.full(n, -1)
    for k in (0, 1):
        y[np.flatnonzero(true == k)[:labels]] = k
    return x, y, true


@pytest.fixture(scope="module")
def fitted() -> FlowGMMClassifier:
    """Fitted in a second to two moons; not to be changed."""
    x, y, _ = moons(labels=20)
    return FlowGMMClassifier(**QUICK).fit(x, y)


def test_ten_labels_and_the_shape_of_two_moons_are_enough() -> None:
    x, y, true = moons(500)
    deep = FlowGMMClassifier(
        couplings=4, hidden=32, transforms="pca", noise=0.1, drop=0, density=1.0, consistency=1.0,
        max_steps=300, lr=5e-3, calibrate=False, random_state=0,
    )  # fmt: skip
    linear = LogisticRegression().fit(x[y >= 0], y[y >= 0])
    fresh, classes = make_moons(500, noise=0.05, random_state=1)
    assert deep.fit(x, y).score(x, true) > 0.97
    assert deep.score(fresh, classes) > 0.97 > linear.score(fresh, classes)


def test_probabilities_are_those_of_the_classes_in_sorted_order(fitted: FlowGMMClassifier) -> None:
    x, _, true = moons()
    p = fitted.predict_proba(x)
    assert p.shape == (300, 2)
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_array_equal(fitted.predict(x), fitted.classes_[p.argmax(1)])
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(x)), p)
    assert fitted.score(x, true) > 0.8


def test_sets_of_classes_have_the_coverage_or_say_that_labels_are_too_few(fitted: FlowGMMClassifier) -> None:
    x, _, true = moons()
    sets = fitted.predict_set(x, coverage=0.9)
    assert sets.shape == (300, 2)
    assert sets[np.arange(300), true].mean() > 0.8
    assert (sets | ~fitted.predict_set(x, coverage=0.7)).all()
    with pytest.raises(ValueError, match=r"0.99 needs 99 labels of a class"):
        fitted.predict_set(x, coverage=0.99, by_class=True)


def test_names_of_classes_come_back_and_none_or_minus_1_is_no_label() -> None:
    x, y, true = moons(100, labels=12)
    names = np.array(["b", "a"], dtype=object)
    mixed = names[true]
    mixed[y < 0] = -1
    mixed[np.flatnonzero(y < 0)[:9]] = None
    named = FlowGMMClassifier(**QUICK).fit(x, mixed)
    assert named.classes_.tolist() == ["a", "b"]
    assert set(named.predict(x)) <= {"a", "b"}
    numbered = FlowGMMClassifier(**QUICK).fit(x, np.where(y < 0, -1, 1 - y))
    np.testing.assert_array_equal(named.predict_proba(x), numbered.predict_proba(x))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overrides": {"train.epoch": 3}}, "^FlowGMMClassifier has 1 problem; train.epoch .*`epochs`\\?$"),
        ({"lr": -1}, "^FlowGMMClassifier has 1 problem; train.lr  expected a number above 0"),
    ],
)
def test_mistakes_in_settings_have_no_place_in_a_file(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FlowGMMClassifier(**settings).fit([[0.0], [1.0]], [0, 1])


def test_score_leaves_out_unlabelled_rows(fitted: FlowGMMClassifier) -> None:
    x, y, true = moons(labels=20)
    known = y >= 0
    expected = fitted.score(x[known], y[known])
    assert fitted.score(x, y) == expected == accuracy_score(y[known], fitted.predict(x[known]))
    assert fitted.score(x, np.where(known, y, np.nan)) == expected
    weight = np.where(known, 1.0, 100.0) + true
    assert fitted.score(x, y, weight) == fitted.score(x[known], y[known], weight[known])
    assert fitted.score(x.tolist(), pd.Series(y).where(known).astype("Int64")) == expected
    with pytest.raises(ValueError, match="no label"):
        fitted.score(x, np.full(len(x), -1))
    scores = cross_val_score(FlowGMMClassifier(**QUICK), x, y, cv=2)
    assert scores.min() > 0.6  # 0.1 if unlabelled rows counted as wrong
    coded = FlowGMMClassifier(**FEW_STEPS)
    with pytest.warns(UserWarning, match="taken as two classes"):
        coded.fit(x, 2 * true - 1)
    assert coded.score(x, 2 * true - 1) == accuracy_score(2 * true - 1, coded.predict(x))


def test_density_and_latents_are_those_of_the_trained_model(fitted: FlowGMMClassifier) -> None:
    x, _, _ = moons()
    model = fitted.trained_.model
    features = torch.from_numpy(x)
    transformed, log_det = fitted.trained_.preprocessor.transforms(features)
    labels = torch.full((len(x),), -1)
    found = fitted.trained_.encode_rows(Tensors(transformed, labels, log_det))
    np.testing.assert_array_equal(fitted.score_samples(x), found.log_density)
    np.testing.assert_allclose(fitted.predict_log_proba(x), found.log_posterior)
    np.testing.assert_allclose(fitted.transform(x), model.embed(transformed).detach().numpy())
    by_hand = model.log_prob(transformed).detach() + log_det
    np.testing.assert_allclose(fitted.score_samples(x), by_hand.numpy())
    assert fitted.temperature_ == float(model.temperature)


def test_the_density_integrates_to_one_in_the_units_of_x() -> None:
    x, y, _ = moons(labels=20)
    scaled = 100 * x
    model = FlowGMMClassifier(**QUICK, transforms="standardise").fit(scaled, y)
    side = np.linspace(-600, 700, 400)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    mass = np.exp(model.score_samples(grid)).sum() * (side[1] - side[0]) ** 2
    assert mass == pytest.approx(1, abs=0.01)


def test_numbers_that_are_too_large_have_no_class(fitted: FlowGMMClassifier) -> None:
    rows = np.zeros((3, fitted.n_features_in_))
    rows[1] = 1e300
    for method in (fitted.predict, fitted.predict_proba):
        with pytest.raises(
            ValueError, match=r"X, row 1: its numbers are too large for the model .1 such row"
        ):
            method(rows)
    with pytest.raises(ValueError, match="the number of rows is -1"):
        fitted.sample(-1)


def test_samples_are_in_the_units_of_x_and_of_the_classes_asked_for(fitted: FlowGMMClassifier) -> None:
    x, drawn = fitted.sample(500)
    assert x.shape == (500, 2)
    assert set(drawn) == {0, 1}
    true, _, _ = moons()
    np.testing.assert_allclose(x.mean(0), true.mean(0), atol=0.3)
    ones, labels = fitted.sample(200, y=1)
    assert set(labels) == {1}
    assert (fitted.predict(ones) == 1).mean() > 0.8
    wanted = np.array([0, 1, 1])
    np.testing.assert_array_equal(fitted.sample(3, y=wanted)[1], wanted)
    np.testing.assert_array_equal(fitted.sample(4)[0], fitted.sample(4)[0])
    with pytest.raises(ValueError, match="unknown class 7"):
        fitted.sample(2, y=7)


def test_a_saved_estimator_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    x, _, true = moons(80)
    labels = np.array(["left", "right"])[true]
    first = FlowGMMClassifier(**QUICK, transforms=[{"use": "pca", "dim": 2}]).fit(x, labels)
    first.save(tmp_path / "model")
    files = {path.name for path in (tmp_path / "model").iterdir()}
    assert files == {"classifier.json", "model.json", "model.safetensors"}
    second = FlowGMMClassifier.load(tmp_path / "model")
    assert second.get_params() == first.get_params()
    np.testing.assert_array_equal(second.classes_, first.classes_)
    assert second.classes_.dtype == first.classes_.dtype
    for name in ("predict", "predict_proba", "predict_set", "score_samples", "transform"):
        np.testing.assert_array_equal(getattr(second, name)(x), getattr(first, name)(x))
    for ours, theirs in zip(second.sample(9), first.sample(9), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (second.n_iter_, second.n_features_in_) == (first.n_iter_, 2)
    second.save(tmp_path / "again")
    for name in files:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_an_ensemble_has_all_methods_of_a_single_model(tmp_path: Path) -> None:
    x, y, _ = moons(80, labels=12)
    several = FlowGMMClassifier(**QUICK, ensemble=2, calibrate=False).fit(x, y)
    assert several.n_iter_ == 2 * 60
    np.testing.assert_allclose(several.predict_proba(x).sum(1), 1)
    assert several.transform(x).shape == (80, several.get_feature_names_out().size)
    assert several.score_samples(x).shape == (80,)
    rows, classes = several.sample(7, y=1)
    assert rows.shape == (7, 2)
    assert set(classes) == {1}
    several.save(tmp_path)
    np.testing.assert_array_equal(FlowGMMClassifier.load(tmp_path).predict_proba(x), several.predict_proba(x))


def test_the_saved_model_is_an_ordinary_one(fitted: FlowGMMClassifier, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    trained = TrainedModel.load(tmp_path)
    assert trained.class_names == ("0", "1")
    x, _, _ = moons()
    seen, log_det = trained.preprocessor.transforms(torch.from_numpy(x))
    found = trained.encode_rows(Tensors(seen.float(), log_det=log_det))
    np.testing.assert_allclose(found.log_posterior.exp(), fitted.predict_proba(x), atol=1e-4)


def test_loading_another_folder_is_an_error(fitted: FlowGMMClassifier, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="classifier"):
        FlowGMMClassifier.load(tmp_path)
    fitted.save(tmp_path)
    file = tmp_path / "classifier.json"
    file.write_text(file.read_text().replace("classifier/1", "classifier/9"))
    with pytest.raises(RunError, match="classifier/9"):
        FlowGMMClassifier.load(tmp_path)
    with pytest.raises(NotFittedError):
        FlowGMMClassifier().save(tmp_path)


def test_weights_of_labels_reach_the_loss_also_through_pipelines_and_routing() -> None:
    x, y, _ = moons(labels=3)
    y[:3] = 0, 1, 0
    model = FlowGMMClassifier(**FEW_STEPS, calibrate=False)
    weights = np.linspace(1, 5, len(y))
    plain, equal, weighted = (
        model.fit(x, y, sample_weight=each).predict_proba(x) for each in (None, np.full(len(y), 2.0), weights)
    )
    assert np.array_equal(plain, equal)
    assert not np.array_equal(plain, weighted)
    named = "flowgmmclassifier__sample_weight"
    assert np.array_equal(make_pipeline(model).fit(x, y, **{named: weights}).predict_proba(x), weighted)
    with config_context(enable_metadata_routing=True):
        routed = make_pipeline(model.set_fit_request(sample_weight=True)).fit(x, y, sample_weight=weights)
    assert np.array_equal(routed.predict_proba(x), weighted)


def test_it_works_in_a_pipeline_and_a_grid_search() -> None:
    x, y, true = moons(90, labels=15)
    pipeline = make_pipeline(StandardScaler(), FlowGMMClassifier(**QUICK, transforms=None, calibrate=False))
    assert pipeline.fit(x, y).score(x, true) > 0.7
    latents = make_pipeline(FlowGMMClassifier(**FEW_STEPS), StandardScaler()).fit_transform(x, y)
    np.testing.assert_allclose(latents.std(0), 1)
    search = GridSearchCV(
        FlowGMMClassifier(**FEW_STEPS, calibrate=False),
        {"couplings": [1, 2], "noise": np.array([0.1, 0.5])},
        cv=2,
    )
    search.fit(x, true)
    assert set(search.best_params_) == {"couplings", "noise"}
    assert search.best_estimator_.predict(x).shape == (90,)


def test_only_the_seed_changes_the_model() -> None:
    x, y, _ = moons(60)
    state = torch.get_rng_state()
    quick = {**FEW_STEPS, "dropout": 0.3}
    one = FlowGMMClassifier(**quick).fit(x, y).predict_proba(x)
    torch.rand(3)
    np.testing.assert_array_equal(FlowGMMClassifier(**quick).fit(x, y).predict_proba(x), one)
    other = FlowGMMClassifier(**{**quick, "random_state": 1}).fit(x, y).predict_proba(x)
    assert not np.array_equal(other, one)
    torch.set_rng_state(state)
    free = [FlowGMMClassifier(**{**quick, "random_state": None}).fit(x, y).predict_proba(x) for _ in range(2)]
    assert not np.array_equal(*free)


def test_fit_prints_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    x, y, _ = moons(60)
    FlowGMMClassifier(**FEW_STEPS).fit(x, y)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []

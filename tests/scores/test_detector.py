from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_rows import component

from flowgmm_cli.api import Component, Config, ScoreInputs
from flowgmm_cli.errors import RecipeError, UsageError
from flowgmm_cli.model import Model
from flowgmm_cli.scores import detector as module
from flowgmm_cli.scores.base import ArrayScore
from flowgmm_cli.scores.detector import Detector, FittedScore, fit_detector
from flowgmm_cli.scores.specs import SPECS

Draw = Callable[..., ScoreInputs]
EVERY = [component(name) for name in SPECS]


def fit(components: list[Component], draw: Draw, model: Model, *, with_images: bool = True) -> Detector:
    train, held_out = (draw(200, seed=seed, with_images=with_images) for seed in (0, 1))
    return fit_detector(components, train, held_out, model, 0)


def detector_of(held_out: np.ndarray) -> Detector:
    return Detector((FittedScore("main", 0, None, np.sort(held_out)),), "main")  # type: ignore[arg-type]


def test_all_scores_are_given_the_default_first(draw: Draw, gaussian: Model) -> None:
    detector = fit(EVERY, draw, gaussian)
    assert detector.default == detector.names[0] == next(iter(SPECS))
    detector = detector.with_default("nll")
    assert detector.names[0] == "nll"
    rows = draw(30, seed=2)
    result = detector(rows)
    assert list(result) == list(detector.names)
    assert sorted(result) == sorted({*SPECS} - {"unknown"})
    assert list(detector(rows, ["entropy", "nll"])) == ["nll", "entropy"]
    np.testing.assert_array_equal(result["nll"], -rows.log_density.numpy())


def test_scores_of_images_are_skipped_for_rows_without_images(draw: Draw, gaussian: Model) -> None:
    detector = fit(EVERY, draw, gaussian, with_images=False)
    assert set(detector.names) == set(SPECS) - {"likelihood_ratio", "compression", "unknown"}
    with pytest.raises(RecipeError, match="no score") as caught:
        fit([component("compression")], draw, gaussian, with_images=False)
    assert caught.value.details == ("compression reads images",)
    with pytest.raises(RecipeError, match="no score") as caught:
        fit([component("unknown")], draw, gaussian)
    assert caught.value.details == ("unknown needs unknown kinds, see prior.unknown",)


def test_a_component_can_be_repeated(draw: Draw, gaussian: Model) -> None:
    components = [component("input_knn"), component("input_knn", k=1), component("input_knn", k=2)]
    assert fit(components, draw, gaussian).names == ("input_knn", "input_knn_2", "input_knn_3")


def test_an_unknown_score_is_refused_with_a_guess(draw: Draw, gaussian: Model) -> None:
    detector = fit([component("entropy"), component("nll")], draw, gaussian)
    for ask in (
        lambda: detector(draw(3), ["entropi"]),
        lambda: detector.threshold("entropi"),
        lambda: detector.percentile("entropi", np.zeros(1)),
        lambda: detector.with_default("entropi"),
    ):
        with pytest.raises(UsageError, match="did you mean `entropy`"):
            ask()


@settings(max_examples=100, deadline=None)
@given(
    held_out=st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=60).map(np.array),
    fpr=st.floats(0.001, 0.999),
)
def test_the_threshold_flags_as_many_held_out_rows_as_it_may(held_out: np.ndarray, fpr: float) -> None:
    threshold = detector_of(held_out).threshold("main", fpr)
    assert threshold in held_out
    assert (held_out > threshold).mean() <= fpr
    lower = held_out[held_out < threshold]
    if len(lower):  # and the next lower one would flag too many
        assert (held_out > lower.max()).mean() > fpr


def test_thresholds_and_percentiles_by_hand() -> None:
    detector = detector_of(np.arange(20.0))
    assert detector.threshold("main") == 18  # one of twenty lies above
    assert detector.threshold("main", 0.5) == 9
    shares = detector.percentile("main", np.array([-1.0, 0.0, 0.5, 19.0, 20.0]))
    assert shares.tolist() == [0, 0, 0.05, 0.95, 1]
    ties = detector_of(np.array([1.0, 1, 1, 2]))
    assert ties.percentile("main", np.array([1.0, 2.0])).tolist() == [0, 0.75]


def test_a_sample_of_many_held_out_scores_gives_the_same_thresholds(draw: Draw, gaussian: Model) -> None:
    held_out = draw(20_000, seed=1)
    detector = fit_detector([component("nll")], draw(50), held_out, gaussian, 0)
    scores = -held_out.log_density.numpy()
    kept = detector.reference_scores("nll")
    assert len(kept) == 4000
    assert (kept[0], kept[-1]) == (scores.min(), scores.max())
    for fpr in (0.5, 0.05, 0.01, 0.001):
        assert (scores > detector.threshold("nll", fpr)).mean() == pytest.approx(fpr, abs=3e-4)


def test_it_is_restored_from_its_state(draw: Draw, gaussian: Model) -> None:
    detector = fit(EVERY, draw, gaussian).with_default("typicality")
    values, arrays = detector.state()
    again = Detector.from_state(values, arrays, components=EVERY)
    assert again.names == detector.names
    rows = draw(40, seed=3)
    before, after = detector(rows), again(rows)
    for name in detector.names:
        np.testing.assert_array_equal(after[name], before[name])
        assert again.threshold(name) == detector.threshold(name)


def test_rows_that_several_scores_store_are_saved_once(draw: Draw, gaussian: Model) -> None:
    of = [component("entropy"), component("latent_knn")]
    alone = fit([component("latent_knn")], draw, gaussian).state()[1]
    both = fit([component("latent_knn"), component("combined", of=of)], draw, gaussian).state()[1]
    size = sum(array.nbytes for array in alone.values())
    rows = 200 * 4 * 4
    assert sum(array.nbytes for array in both.values()) < size + rows + 200 * 8 * 4


class Broken(ArrayScore):
    def __call__(self, rows: ScoreInputs) -> np.ndarray:
        return np.full(len(rows), np.nan)


def test_a_plugin_s_numbers_become_finite(
    draw: Draw, gaussian: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "build", lambda component: Broken(component.config))
    monkeypatch.setattr(module, "is_usable", lambda component, rows: True)
    detector = fit([Component(kind="score", use="own/odd", config=Config())], draw, gaussian)
    assert detector.names == ("odd",)
    assert np.isfinite(detector(draw(3))["odd"]).all()

"""The scores at the end of a run: which rows they see, and what is kept of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.inference import ood_fit
from flowgmm_cli.inference.ood_fit import fit_ood
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.trained_model import TrainedModel

FEW = "ood.scores=[{use: nll}, {use: input_knn}, {use: compression}]"


def test_a_trained_run_has_scores_and_keeps_them(train_run: Callable[..., Any]) -> None:
    run, found = train_run("run", FEW, "train.epochs=1")
    detector = found.trained.detector
    assert set(detector.names) == {"nll", "input_knn"}  # the rows are no images
    again = TrainedModel.load(run.path).detector
    assert again is not None
    assert again.names == detector.names
    rows = found.trained.encode_rows(found.trained.preprocessor.apply(_rows(run).test, DataContext()))
    for name, values in detector(rows).items():
        np.testing.assert_array_equal(again(rows)[name], values)
        assert again.threshold(name) == detector.threshold(name)


def test_the_facts_say_what_was_chosen_and_from_what(train_run: Callable[..., Any]) -> None:
    run, found = train_run("run", FEW, "train.epochs=1", "ood.fpr=0.25")
    facts = found.trained.facts["ood"]
    assert facts == run.info()["ood"] == json.loads(json.dumps(facts))
    assert (facts["held_out"], facts["rows"], facts["held_out_rows"], facts["fpr"]) == ("val", 180, 20, 0.25)
    assert facts["default"] == found.trained.detector.default
    assert facts["threshold"] == found.trained.detector.threshold(facts["default"], 0.25)
    assert set(facts["choice"]) == {"nll", "input_knn"}


def test_thresholds_come_from_held_out_rows(train_run: Callable[..., Any]) -> None:
    run, found = train_run("run", FEW, "train.epochs=1")
    split = found.trained.preprocessor.apply(_rows(run).val, DataContext())
    scores = found.trained.detector(found.trained.encode_rows(split))
    for name, values in scores.items():
        np.testing.assert_array_equal(found.trained.detector.reference_scores(name), np.sort(values))


def test_the_recipe_can_name_the_default(train_run: Callable[..., Any]) -> None:
    _, found = train_run("run", FEW, "train.epochs=1", "ood.default=nll")
    assert found.trained.detector.default == "nll"
    assert found.trained.facts["ood"]["reason"] == "named by the recipe"
    assert found.trained.facts["ood"]["choice"] == {}


def test_without_held_out_rows_training_rows_are_set_aside(train_run: Callable[..., Any]) -> None:
    _, found = train_run("run", FEW, "train.epochs=1", "data.split.val=0")
    facts = found.trained.facts["ood"]
    assert (facts["held_out"], facts["rows"], facts["held_out_rows"]) == ("train", 160, 40)
    # none of them is at distance 0 from a row that the score keeps
    assert (found.trained.detector.reference_scores("input_knn") > 0).all()


def test_of_very_many_rows_a_sample_is_seen(
    train_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = train_run("run", FEW, "train.epochs=1")
    monkeypatch.setattr(ood_fit, "MAX_TRAIN_ROWS", 50)
    monkeypatch.setattr(ood_fit, "MAX_HELD_OUT_ROWS", 7)
    one, two = (fit_ood(found.trained, _rows(run), DataContext()) for _ in range(2))
    assert (one[1]["rows"], one[1]["held_out_rows"]) == (50, 7)
    assert one[1] == two[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ood.scores=[{use: compression}]"], "all scores in ood.scores read images"),
        (["ood.default=likelihood_ratio"], "ood.default is likelihood_ratio, which reads images"),
    ],
)
def test_scores_that_do_not_suit_the_rows_are_refused_before_training(
    train_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(
        "flowgmm_cli.training.pipeline.fit_model", lambda *args, **kwargs: pytest.fail("trained")
    )
    with pytest.raises(RecipeError, match=message):
        train_run("run", *words)


def _rows(run: Run) -> Any:
    recipe: Recipe = run.recipe()
    return load_rows(recipe.data, DataContext())

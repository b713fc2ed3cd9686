"""The scores at the end of a run: which rows they see, what is kept of them, and which of them flags rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import Component, DataContext, ScoreInputs
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.inference import ood_fit
from flowgmm_cli.inference.left_out import holds_unknown
from flowgmm_cli.inference.ood_fit import fit_ood, mean_auroc, select_score
from flowgmm_cli.inference.pseudo_ood import pseudo_ood_vectors
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.runs import Run
from flowgmm_cli.scores.detector import fit_detector
from flowgmm_cli.trained_model import TrainedModel

TrainRun = Callable[..., Any]
FEW = "ood.scores=[{use: nll}, {use: input_knn}, {use: compression}]"
KINDS = ("corrupted", "scattered", "magnified")


def _rows(run: Run) -> Any:
    return load_rows(run.recipe().data, DataContext())


def test_a_trained_run_has_scores_with_thresholds_of_held_out_rows_and_facts_about_them(
    shared_run: TrainRun,
) -> None:
    run, found = shared_run(FEW, "train.epochs=1", "ood.fpr=0.25")
    detector, facts = found.trained.detector, found.trained.facts["ood"]
    again = TrainedModel.load(run.path).detector
    assert again is not None
    assert again.names == detector.names
    assert set(detector.names) == {"nll", "input_knn"}  # the rows are no images
    split = found.trained.preprocessor.apply(_rows(run).val, DataContext())
    for name, values in detector(found.trained.encode_rows(split)).items():
        np.testing.assert_array_equal(detector.reference_scores(name), np.sort(values))
    assert facts == run.info()["ood"] == json.loads(json.dumps(facts))
    assert (facts["held_out"], facts["rows"], facts["held_out_rows"], facts["fpr"]) == ("val", 180, 20, 0.25)
    assert facts["default"] == detector.default
    assert facts["threshold"] == detector.threshold(facts["default"], 0.25)
    assert set(facts["choice"]) == {"nll", "input_knn"}
    assert "made of the run's own" in facts["reason"]


def test_the_recipe_can_name_the_default(shared_run: TrainRun) -> None:
    _, found = shared_run(FEW, "train.epochs=1", "ood.default=nll")
    assert found.trained.detector.default == "nll"
    assert found.trained.facts["ood"]["reason"] == "named by the recipe"
    assert found.trained.facts["ood"]["choice"] == {}


def test_without_held_out_rows_training_rows_are_set_aside(shared_run: TrainRun) -> None:
    _, found = shared_run(FEW, "train.epochs=1", "data.split.val=0")
    facts = found.trained.facts["ood"]
    assert (facts["held_out"], facts["rows"], facts["held_out_rows"]) == ("train", 160, 40)
    # none of them is at distance 0 from a row that the score keeps
    assert (found.trained.detector.reference_scores("input_knn") > 0).all()


def test_of_very_many_rows_a_sample_is_seen(shared_run: TrainRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run, found = shared_run(FEW, "train.epochs=1")
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
    train_run: TrainRun, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.setattr(
        "flowgmm_cli.training.pipeline.fit_model", lambda *args, **kwargs: pytest.fail("trained")
    )
    with pytest.raises(RecipeError, match=message):
        train_run("run", *words)


def encode_rows(trained: TrainedModel, run: Run) -> tuple[ScoreInputs, ScoreInputs]:
    """Training and test rows as the model sees them."""
    rows = _rows(run)
    train, test = (trained.preprocessor.apply(part, DataContext()) for part in (rows.train, rows.test))
    return trained.encode_rows(train), trained.encode_rows(test)


def choose(
    trained: TrainedModel,
    train: ScoreInputs,
    held_out: ScoreInputs,
    *uses: str,
    seed: int = 0,
    **options: bool,
) -> Any:
    components = [
        Component(kind="score", use=use, config=registry().find("score", use).spec().config()) for use in uses
    ]
    detector = fit_detector(components, train, held_out, trained.model, 0)
    generator = np.random.default_rng(seed)
    stand_ins = pseudo_ood_vectors(train, held_out, trained.model, generator)
    return select_score(detector, components, train, held_out, trained.model, stand_ins, generator, **options)


def test_of_scores_of_the_same_family_the_one_with_the_best_mean_is_taken(shared_run: TrainRun) -> None:
    run, found = shared_run("train.epochs=20")
    train, held_out = encode_rows(found.trained, run)
    detector, reason, table = choose(found.trained, train, held_out, "mahalanobis", "input_knn", "nll")
    assert set(table) == {"mahalanobis", "input_knn", "nll"}
    for values in table.values():
        assert tuple(values) == KINDS  # two classes: with one left out there is nothing to choose between
        assert all(0 <= value <= 1 for value in values.values())
    assert detector.default == max(table, key=lambda name: mean_auroc(table[name]))
    # rows scattered off two thin moons are far from every training row, whatever class they may be of
    assert table["input_knn"]["scattered"] > 0.8
    assert f"{mean_auroc(table[detector.default]):.3f}" in reason


def test_scores_of_several_families_are_added_and_a_poor_family_counts_for_far_rows(
    shared_run: TrainRun,
) -> None:
    run, found = shared_run("data.name=pinwheel", "data.labels.count=20", "train.epochs=20")
    train, held_out = encode_rows(found.trained, run)
    detector, reason, table = choose(found.trained, train, held_out, "latent_knn", "entropy", "nll")
    assert set(table) == {"latent_knn", "entropy"}  # `nll` is of no family
    assert tuple(table["entropy"]) == (*KINDS, "left out")
    # an arm of the pinwheel lies far from the training rows of all other arms
    assert table["latent_knn"]["left out"] > 0.9 > table["entropy"]["left out"]
    assert detector.default == "blend" == detector.names[0]
    assert reason == detector.blend.describe()
    assert "latent_knn" in reason
    scores = detector(held_out)
    np.testing.assert_array_equal(np.sort(scores["blend"]), detector.reference_scores("blend"))
    np.testing.assert_array_equal(detector(held_out, ["blend"])["blend"], scores["blend"])


def encode_pinwheel(shared_run: TrainRun) -> tuple[TrainedModel, ScoreInputs, ScoreInputs]:
    """A model with 60 labels, its training rows with these, and its test rows."""
    run, found = shared_run("data.name=pinwheel", "data.labels.count=60", "train.epochs=20")
    train, held_out = encode_rows(found.trained, run)
    labels = torch.from_numpy(_rows(run).train.labels)
    is_labelled = labels >= 0
    return found.trained, replace(train, labelled=(train.x[is_labelled], labels[is_labelled])), held_out


def test_a_class_whose_rows_stay_in_the_pile_is_detected_by_labels_alone(shared_run: TrainRun) -> None:
    trained, train, held_out = encode_pinwheel(shared_run)
    _, _, table = choose(trained, train, held_out, "input_knn", "label_distance", "entropy", in_pile=True)
    assert tuple(table["input_knn"]) == (*KINDS, "left out", "unlabelled")
    assert table["input_knn"]["left out"] > 0.9 > 0.7 > table["input_knn"]["unlabelled"]
    assert table["label_distance"]["left out"] == table["label_distance"]["unlabelled"] > 0.7


def test_the_score_that_detects_faults_best_counts_for_far_rows_at_least(shared_run: TrainRun) -> None:
    trained, train, held_out = encode_pinwheel(shared_run)
    uses = "input_knn", "label_angle", "label_posterior", "label_distance"
    detector, reason, table = choose(trained, train, held_out, *uses, in_pile=True)
    best = max(table, key=lambda name: np.mean([table[name][kind] for kind in KINDS]))
    assert best == "input_knn"
    assert best in detector.blend.names
    assert best in reason


def test_unlabelled_rows_of_another_kind_are_noticed_by_their_angles() -> None:
    rng = np.random.default_rng(0)
    means = np.eye(6)[:3] * 6
    labels = np.arange(60) % 3
    x = torch.from_numpy(means[labels] + rng.normal(size=(60, 6))).float()
    same = torch.from_numpy(means[rng.integers(3, size=500)] + rng.normal(size=(500, 6))).float()
    other = torch.from_numpy(np.eye(6)[5] * 6 + rng.normal(size=(100, 6))).float()
    train: Any = SimpleNamespace(labelled=(x, torch.from_numpy(labels)))
    assert not holds_unknown(train, same, np.random.default_rng(1))
    assert holds_unknown(train, torch.cat([same, other]), np.random.default_rng(1))
    few: Any = SimpleNamespace(labelled=(x[:10], torch.from_numpy(labels[:10])))
    assert not holds_unknown(few, torch.cat([same, other]), np.random.default_rng(1))


def test_scores_that_read_images_are_no_candidates(shared_run: TrainRun) -> None:
    run, found = shared_run()
    train, held_out = encode_rows(found.trained, run)
    images = torch.rand(len(train), 4, 4, generator=torch.Generator().manual_seed(0))
    train, held_out = (replace(rows, images=images[: len(rows)]) for rows in (train, held_out))
    assert tuple(choose(found.trained, train, held_out, "compression", "nll")[2]) == ("nll",)
    only = choose(found.trained, train, held_out, "compression")[0]
    assert only.default == "compression"  # there is no other

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.baselines.guide import Guide
from flowgmm_cli.devices import Engine
from flowgmm_cli.errors import InterruptedRunError, RecipeError, RunError
from flowgmm_cli.evaluation.calibration import (
    fit_temperature,
    fit_temperature_and_noise,
    margin_scale,
    temper_true_classes,
)
from flowgmm_cli.evaluation.folds import OutOfFold, sample_unlabelled
from flowgmm_cli.files import read_json, write_tensors
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.trained_model import TrainedModel, encode
from flowgmm_cli.training import search
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import FitJob, TrainContext, fit_all
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.prepare import prepare
from flowgmm_cli.training.search import CandidateResult, SearchResult

SEARCH = (
    "search={keep: 2, folds: 2, epochs: 0.5, candidates: {plain: {}, wide: {flow.hidden: 24}, "
    "blind: {objective.labelled: 0.0, regularisers: [], prior.means: random}}}"
)


def result(name: str, *, accuracy: float = 0.5, nll: float = 1.0, agreement: float = 0.5) -> CandidateResult:
    held_out = OutOfFold(np.zeros((2, 2)), *(np.array([0, 1]),) * 3, np.zeros((2, 3, 2)), np.zeros((2, 0)))
    return CandidateResult(name, {}, held_out, accuracy, nll, agreement, -1.0, 0.1)


def predictor(name: str, right: Any, folds: Any = None) -> CandidateResult:
    """Candidate whose predictions of the labels are right at some rows."""
    rows = np.arange(len(right))
    labels, folds = rows % 2, rows % 4 if folds is None else folds
    scores = np.where(np.eye(2)[labels] == np.asarray(right)[:, None], 2.0, -2.0)
    held_out = OutOfFold(scores, labels, rows, folds, np.zeros((2, 3, 2)), np.zeros((len(rows), 0)))
    losses = -temper_true_classes(scores, labels, fit_temperature(scores, labels), 0.0)
    return replace(result(name, nll=float(losses.mean())), out_of_fold=held_out)


def test_a_score_is_likelihood_and_a_little_agreement_and_density() -> None:
    item = result("one", accuracy=0.75, nll=0.5, agreement=0.9)
    assert item.score == pytest.approx(-0.5 + 0.2 * 0.9 + 0.02 * -1.0)
    again = CandidateResult.restore(json.loads(json.dumps(item.summary())), item.tensors())
    assert again.summary() == item.summary()
    assert np.array_equal(again.out_of_fold.unlabelled, item.out_of_fold.unlabelled)


def test_candidates_are_ranked_by_unseen_labels_then_by_agreement(moons: Any) -> None:
    good, bad = result("good", accuracy=0.9, nll=0.3), result("bad", accuracy=0.6, nll=0.9)
    steady = result("steady", accuracy=0.9, nll=0.3, agreement=0.8)
    actual = search.rank([bad, good, steady], moons(SEARCH), keep=2, classes=2)
    assert [item.name for item in actual.results] == ["steady", "good", "bad"]
    assert [item.name for item in actual.kept] == ["steady", "good"]
    assert actual.reason.startswith("steady has the best score: 0.300 nats and 90.0% on labels not seen")


def test_the_search_keeps_the_best_and_calibrates_on_their_mean_predictions(shared_run: Any) -> None:
    run, result = shared_run(SEARCH, "train.epochs=6")
    results, kept = result.search.results, result.search.kept
    assert list(results) == sorted(results, key=lambda item: -item.score)
    assert kept == results[:2]
    names = [item.name for item in kept]
    assert [member.candidate for member in result.trained.members] == names
    assert len(result.trained.model.parts) == 2

    labels = kept[0].out_of_fold.labels
    assert len(labels) == result.calibration.rows == 12
    log_joint = np.mean([item.out_of_fold.log_joint for item in kept], axis=0)
    of_the_folds, noise = fit_temperature_and_noise(log_joint, labels)
    assert result.calibration.noise == pytest.approx(noise)
    unlabelled = np.mean([item.out_of_fold.unlabelled for item in kept], axis=0)
    scale = np.mean([margin_scale(item) for item in unlabelled])
    data = prepare(run.recipe(), DataContext())
    rows = torch.from_numpy(sample_unlabelled(data.train.labels.numpy()))
    own = encode(result.trained.model, data.train.x[rows]).class_log_prob.double().numpy()
    assert result.calibration.temperature == pytest.approx(of_the_folds * margin_scale(own) / scale)

    saved = read_json(run.path / "search.json", "search")
    assert (saved["schema"], saved["kept"]) == ("flowgmm/search/1", names)
    assert {item["name"] for item in saved["candidates"]} == {"plain", "wide", "blind"}


def test_candidates_of_a_fold_are_chosen_without_its_labels(moons: Any) -> None:
    folds = np.repeat([0, 1], 20)
    first = predictor("first", np.where(folds == 0, 1, np.arange(40) % 4 > 0), folds)  # right on fold 0
    second = predictor("second", np.where(folds == 1, 1, np.arange(40) % 4 > 0), folds)
    ranked = search.rank([first, second], moons(SEARCH), keep=1, classes=2)
    found = ranked.cross_fitted()
    assert found is not None
    for fold, chosen in ((0, second), (1, first)):  # the one that is right elsewhere
        own = folds == fold
        np.testing.assert_array_equal(found.log_joint[own], chosen.out_of_fold.log_joint[own])


def test_a_challenger_must_be_significantly_better(moons: Any) -> None:
    rows, third = np.arange(80), predictor("third", np.arange(80) % 2 > 0)
    plain = predictor("plain", rows % 5 > 0)
    for wrong, expected in ((rows < 14, "plain"), (rows < 4, "other")):
        other = replace(predictor("other", ~wrong), challenger=True)
        assert other.score > plain.score
        ranked = search.rank([third, other, plain], moons(SEARCH), keep=2, classes=2)
        assert ranked.kept[0].name == expected
        assert ("the gain of other is not significant" in ranked.reason) == (expected == "plain")
    assert len(other.losses_without(0)) == 60


def test_a_member_that_raises_the_log_loss_of_the_mean_is_left_out(moons: Any) -> None:
    rows = np.arange(80)
    best, worse = predictor("best", rows % 8 > 0), predictor("worse", rows % 8 > 3)
    other = predictor("other", rows % 8 < 7)  # right where the best is wrong
    for second, kept in ((worse, ["best"]), (other, ["best", "other"])):
        ranked = search.rank([second, best], moons(SEARCH), keep=2, classes=2)
        assert sorted(item.name for item in ranked.kept) == kept
        assert ("the mean is better without worse" in ranked.reason) == (second is worse)
        found = ranked.cross_fitted()
        assert found is not None
        if second is worse:
            np.testing.assert_array_equal(found.log_joint, best.out_of_fold.log_joint)


@pytest.mark.parametrize(
    ("right", "text"),
    [
        (1.0, "log loss 0.0"),
        (0.62, "the recipe as it is (--no-auto): no difference can be seen"),
        (None, "the recipe is kept as it is"),
    ],
)
def test_the_gain_over_the_recipe_as_it_is_is_stated(moons: Any, right: float | None, text: str) -> None:
    def candidate(name: str, share: float, changes: dict[str, Any]) -> CandidateResult:
        return replace(predictor(name, np.arange(80) * 7 % 80 < share * 80), changes=changes)

    others = [] if right is None else [candidate("other", right, {"flow.hidden": 9})]
    ranked = search.rank([candidate("plain", 0.6, {}), *others], moons(SEARCH), keep=1, classes=2)
    assert text in ranked.describe_gain()
    assert ranked.summary()["gain"] == ranked.describe_gain()
    changed = replace(ranked, results=tuple(replace(item, changes={"a": 1}) for item in ranked.results))
    assert changed.describe_gain() == ""


def test_figures_of_a_candidate_are_those_of_its_own_trainings(
    train_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    fitted = search.fit_all

    def remember(fitting: Any, jobs: Any, **options: Any) -> Any:
        result = fitted(fitting, jobs, **options)
        seen.extend((fitting, job.labels, item.model) for job, item in zip(jobs, result, strict=True))
        return result

    monkeypatch.setattr(search, "fit_all", remember)
    _, result = train_run("run", "search={keep: 1, folds: 2, candidates: {only: {}}}")
    (item,) = result.search.results
    folds = seen[:2]
    data = folds[0][0].data
    truth = data.train.labels.numpy()
    log_joint, labels, classes = [], [], []
    for _, visible, model in folds:
        hidden = np.flatnonzero((truth >= 0) & (visible < 0))
        log_joint.append(
            encode(model, data.train.x[torch.from_numpy(hidden)]).class_log_prob.double().numpy()
        )
        labels.append(truth[hidden])
        classes.append(encode(model, data.train.x[data.train.labels < 0]).class_log_prob.argmax(1))
    np.testing.assert_allclose(item.out_of_fold.log_joint, np.concatenate(log_joint))
    np.testing.assert_array_equal(item.out_of_fold.labels, np.concatenate(labels))
    assert item.agreement == pytest.approx(float((classes[0] == classes[1]).double().mean()))
    right = np.concatenate(log_joint).argmax(1) == np.concatenate(labels)
    assert item.accuracy == pytest.approx(right.mean())


def test_an_interrupted_search_resumes_to_the_same_result(
    shared_run: Any, new_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = shared_run(SEARCH)
    broken = new_run("broken", SEARCH)
    tried, real = [], search.fit_all

    def stop_at_the_second(*args: Any, **options: Any) -> Any:
        tried.append(options["title"].split()[1])
        if len(tried) == 2:
            raise InterruptedRunError("stopped")
        return real(*args, **options)

    monkeypatch.setattr(search, "fit_all", stop_at_the_second)
    with pytest.raises(InterruptedRunError):
        train(broken.recipe(), broken)
    train(broken.recipe(), broken)
    assert tried == ["plain", "wide", "wide", "blind"]  # the first is not tried again
    for file in ("model.safetensors", "eval/cross_fitted.npz"):
        assert (whole.path / file).read_bytes() == (broken.path / file).read_bytes()
    before, after = (read_json(run.path / "search.json", "search") for run in (whole, broken))
    assert before["kept"] == after["kept"]
    assert [item["score"] for item in before["candidates"]] == [item["score"] for item in after["candidates"]]


def test_a_damaged_search_file_is_refused(new_run: Any) -> None:
    run = new_run("run", SEARCH)
    write_tensors(run.path / "search.safetensors", {"other": torch.zeros(1)})
    (run.path / "search.json").write_text('{"candidates": [{"name": "plain"}]}')
    with pytest.raises(RunError, match=r"search\.json is damaged"):
        train(run.recipe(), run)


def test_the_first_candidates_are_taken_if_every_class_has_a_single_label(train_run: Any) -> None:
    _, result = train_run("run", SEARCH, "data.labels.count=2")
    assert [item.name for item in result.search.kept] == ["plain", "wide"]
    assert "too few labels" in result.search.reason
    assert result.calibration.method == "training"


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ("{a: {flow.couplngs: 2}}", "couplngs"),
        ("{a: {flow.couplings: many}}", "couplings"),
        ("{a: {run.seed: 3}}", "only keys below"),
        ("{a: {data.labels.count: 3}}", "only keys below"),
        ("{a: {prior.means: nowhere}}", "means"),
        ("{}", "candidates"),
        ("{a: {data.views.strong: [{use: drop_words}]}}", "can only leave them out"),
    ],
)
def test_a_candidate_that_cannot_be_trained_is_refused_before_training(
    moons: Any, candidates: str, message: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        moons(f"search.candidates={candidates}")
    assert message in "\n".join([caught.value.message, *caught.value.details])


def test_a_challenger_is_checked_like_a_candidate(moons: Any) -> None:
    for challengers, message in (
        ("{a: {flow.couplngs: 2}}", "search.challengers.a: "),
        ("{plain: {}}", "plain is the name of a candidate"),
    ):
        with pytest.raises(RecipeError) as caught:
            moons(SEARCH, f"search.challengers={challengers}")
        assert message in "\n".join([caught.value.message, *caught.value.details])


def test_an_ensemble_takes_every_kept_candidate_several_times(train_run: Any) -> None:
    run, result = train_run("run", SEARCH, "ensemble=2")
    kept = [item.name for item in result.search.kept]
    assert [member.candidate for member in result.trained.members] == kept * 2
    loaded = TrainedModel.load(run.path)
    assert loaded.members == result.trained.members
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.model.class_log_prob(x), result.trained.model.class_log_prob(x))
    means = [part.mixture.means for part in result.trained.model.parts]
    assert not any(torch.equal(means[i], means[j]) for i in range(4) for j in range(i))


def test_an_unfinished_search_keeps_no_candidate(tmp_path: Path) -> None:
    SearchResult((result("a"),), (), "not finished").save(tmp_path)
    assert read_json(tmp_path / "search.json", "search")["kept"] == []


@pytest.mark.slow  # a training of 180 steps
def test_the_candidate_for_curved_classes_follows_simple_methods_in_a_short_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowgmm_cli.baselines.guide.METHODS", ("svm",))  # to save time
    rng = np.random.default_rng(0)
    cells = rng.integers(3, size=(1500, 2))  # of a chequerboard
    x, classes = cells + rng.normal(scale=0.25, size=cells.shape), cells.sum(1) % 2
    lines = [
        f"{a:.4f},{b:.4f},{k if i < 120 else ''}"
        for i, ((a, b), k) in enumerate(zip(x, classes, strict=True))
    ]
    (tmp_path / "board.csv").write_text("\n".join(["a,b,y", *lines]))
    recipe = load_recipe("csv", [f"data.path={tmp_path}/board.csv", "data.label=y", "data.split.test=0"])
    data, config = prepare(recipe, DataContext()), recipe.search
    assert config is not None
    labels = data.train.labels.numpy()
    guide = Guide(data.train, data.val, classes=2, seed=0, note=print)
    parts = Engine(torch.device("cpu"), "fp32"), Callbacks(), Interrupt()
    context = TrainContext(recipe, data, *parts, guide=guide)
    run = create_run(recipe, argv=[], directory=tmp_path / "run")  # its best epoch is taken
    job = FitJob(labels, config.challengers["curved"], run, share=config.epochs)
    model = fit_all(context, [job], title="search", unit="fold")[0].model
    targets = guide.targets(labels)
    assert targets is not None
    follows = encode(model, data.train.x).class_log_prob.argmax(1) == targets[: len(labels)].argmax(1)
    assert follows[labels < 0].double().mean() > 0.9

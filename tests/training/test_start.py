"""Trainings that go on from a finished run: more labels, a further class, and no label twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.data.prepare import load_rows
from flowgmm_cli.errors import DataError, FlowgmmError, InterruptedRunError, RecipeError, RunError
from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions, cross_fitted_file, find_test_hashes
from flowgmm_cli.evaluation.folds import split_labelled
from flowgmm_cli.evaluation.temperature import Calibration
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.mixture.build import copy_classes
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training import search
from flowgmm_cli.training.model_init import initialise_model
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.start import Start

MORE = ("data.labels.count=40", "train.epochs=10", "checkpoint.every_steps=2")
CENTRES = {"a": (-4.0, 0.0), "b": (4.0, 0.0), "c": (0.0, 5.0)}


@pytest.fixture
def go_on(moons: Any, shared_run: Any, tmp_path: Path) -> Any:
    """Make a run of the tiny recipe with some words that goes on from the shared one."""

    def make(name: str, *words: str) -> Run:
        start, _ = shared_run()
        return create_run(moons(*MORE, *words), argv=[], directory=tmp_path / name, start=start)

    return make


def load_start(run: Run) -> Start:
    return Start.load(run.info()["from"], run.recipe(), DataContext())


def test_weights_and_means_are_those_of_the_run_and_a_new_class_starts_at_its_rows(
    moons: Any, shared_run: Any
) -> None:
    model = TrainedModel.load(shared_run()[0].path).model.parts[0]
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0)) + 2
    labels = torch.tensor([0, 1, 2, 2, 2] + [-1] * 25)
    fresh = initialise_model(moons(), x, labels, classes=3, seed=5, start=(model, {0: 1, 2: 0}))
    z = model.embed(x).detach()
    torch.testing.assert_close(fresh.embed(x), z)
    assert not torch.equal(z, x)
    torch.testing.assert_close(fresh.mixture.means[[0, 2]], model.mixture.means[[1, 0]])
    torch.testing.assert_close(fresh.mixture.means[1], z[1])
    torch.testing.assert_close(fresh.mixture.scales[[0, 2]], model.mixture.scales[[1, 0]])


def test_gaussians_of_classes_are_copied_with_their_weights_and_the_rest() -> None:
    draw = torch.Generator().manual_seed(0)

    def mixture(classes: int, **more: Any) -> GaussianMixture:
        made = GaussianMixture(torch.randn(2 * classes, 3, generator=draw), components=2, features=4, **more)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.normal_(generator=draw)
        return made

    for more in ({"learn_rest": True}, {"shared": True, "diagonal": True}):
        source, target = mixture(2, **more), mixture(3, **more)
        own = target.means[2:4].clone()
        copy_classes(source, target, {0: 1, 2: 0})
        torch.testing.assert_close(target.means[[0, 1, 4, 5]], source.means[[2, 3, 0, 1]])
        torch.testing.assert_close(target.means[2:4], own)
        z = torch.randn(5, 4, generator=draw)
        torch.testing.assert_close(
            target.conditional_log_prob(z)[:, [0, 2]], source.conditional_log_prob(z)[:, [1, 0]]
        )


def test_a_run_goes_on_in_a_share_of_the_steps_and_names_the_runs_before_it(
    go_on: Any, moons: Any, shared_run: Any, tmp_path: Path
) -> None:
    start, _ = shared_run()
    run = go_on("more", "train.lr=1e-3", "train.schedule=constant", "train.warmup=0")
    result = train(run.recipe(), run)
    assert result.first.epochs == 3  # a share of 10, rounded up
    assert result.steps == 3 * 3
    (logged,) = [line for line in read_metrics(run.metrics) if line["split"] == "train" and line["step"] == 2]
    assert logged["loss.consistency"] > 0  # no ramp
    assert logged["lr"] == 4e-3
    rows = torch.ones(2, 2).double()
    first, second = (
        item.preprocessor.transforms(rows)[0] for item in (result.trained, shared_run()[1].trained)
    )
    assert torch.equal(first, second)
    info = run.info()["from"]
    assert info["run"] == str(start.path.absolute())
    assert info["fingerprint"] == start.info()["fingerprint"]
    third = create_run(moons(), argv=[], directory=tmp_path / "third", start=run)
    chain = third.info()["from"]
    assert (chain["run"], chain["from"]) == (str(run.path.absolute()), info)


def test_an_interrupted_run_that_goes_on_from_another_is_resumed_exactly(
    go_on: Any, same_outcome: Any, interrupt_after: Any, crash_at: Any
) -> None:
    whole, broken = go_on("whole"), go_on("broken")
    train(whole.recipe(), whole)
    with pytest.raises(InterruptedRunError):
        train(broken.recipe(), broken, interrupt=interrupt_after(3))
    crash_at(broken, 5)
    train(broken.recipe(), broken)
    same_outcome(whole, broken)


def test_every_member_goes_on_from_its_own_and_nothing_is_searched(
    moons: Any, shared_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "keep_candidates", lambda ranked, most, without=None: tuple(ranked[:most]))
    words = ("search={keep: 2, folds: 2, candidates: {plain: {}, wide: {flow.hidden: 16}}}", "train.epochs=2")
    start, _ = shared_run(*words)
    run = create_run(moons(*words, "data.labels.count=40"), argv=[], directory=tmp_path / "m", start=start)
    result = train(run.recipe(), run)
    assert result.search is None
    assert not (run.path / "search.json").exists()
    assert run.info()["members"] == start.info()["members"]
    assert len(result.trained.model.parts) == 2


# --- honesty about labels ---


def test_labels_that_the_run_knows_are_not_held_out_again(go_on: Any, shared_run: Any) -> None:
    start, before = shared_run()
    run = go_on("more", "train.lr=1e-3", "train.schedule=constant", "train.warmup=0")
    result = train(run.recipe(), run)
    rows = load_rows(run.recipe().data, DataContext(), test=find_test_hashes(run)).train
    known = before.trained.find_labelled(rows)
    assert known.sum() == 12
    assert result.out_of_fold is not None
    assert not known[result.out_of_fold.rows].any()
    assert len(result.out_of_fold.rows) == 28
    # those that folds of the run held out count with the predictions of that time
    stored = CrossFittedPredictions.load(cross_fitted_file(run))
    earlier = CrossFittedPredictions.load(cross_fitted_file(start))
    assert stored is not None
    assert earlier is not None
    assert len(stored) == 40
    old = dict(zip(earlier.hashes, earlier.log_probabilities, strict=True))
    matched = [place for place, value in enumerate(stored.hashes) if value in old]
    assert len(matched) == len(earlier) == 12
    for place in matched:
        np.testing.assert_allclose(stored.log_probabilities[place], old[stored.hashes[place]])
    assert len(result.held_out) == 40
    assert run.info()["calibration"]["rows"] == 40
    assert set(before.trained.labelled_rows) <= set(result.trained.labelled_rows)


def test_known_rows_stay_visible_in_every_fold() -> None:
    labels, known = np.array([0, 0, 0, 1, 1, 1, -1]), np.array([1, 1, 0, 1, 0, 0, 0], bool)
    folds = split_labelled(labels, 2, seed=0, known=known)
    assert sorted(row for fold in folds for row in fold.held_out.tolist()) == [2, 4, 5]
    assert all((fold.visible[known] == labels[known]).all() for fold in folds)


def test_the_calibration_of_the_run_counts_as_much_as_its_labels(shared_run: Any) -> None:
    run, result = shared_run()
    start = Start(run, result.trained)
    stored = result.trained.facts["calibration"]
    assert stored["rows"] == 12
    spread = np.array([[0.0, 2.0], [0.0, 2.0]])
    fitted = Calibration(3.0, "cross_fit", rows=4, accuracy=0.5, noise=0.1, nll=1.0, frequency_nll=1.0)
    combined = start.calibrate(fitted, spread, 2 * spread)
    expected = 0.25 * np.log(3.0) + 0.75 * np.log(2 * stored["temperature"])
    assert np.log(combined.temperature) == pytest.approx(expected)
    assert combined.rows == 16
    assert combined.noise == pytest.approx(0.025 + 0.75 * stored["noise"])
    few = start.calibrate(Calibration(1.0, "training"), spread, spread)
    assert (few.temperature, few.method) == (pytest.approx(stored["temperature"]), "cross_fit")
    assert start.calibrate(fitted.__class__(1.5, "val"), spread, spread).temperature == 1.5


def write_table(path: Path, labels: dict[str, int]) -> None:
    """Write 150 rows of each kind, the first ones of a kind with its label."""
    rng = np.random.default_rng(0)
    lines = ["x,y,kind"]
    for kind, centre in CENTRES.items():
        for number, row in enumerate((centre + rng.normal(size=(150, 2))).tolist()):
            lines.append(f"{row[0]:.4f},{row[1]:.4f},{kind if number < labels.get(kind, 0) else ''}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """Write a table with labels and train on it, perhaps from a run: `table("name", {"a": 20}, start)`."""

    def train_it(name: str, labels: dict[str, int], start: Run | None = None, *words: str) -> Any:
        write_table(tmp_path / "rows.csv", labels)
        own = [f"data.path={tmp_path / 'rows.csv'}", "data.label=kind", "search=null", "flow.hidden=16"]
        recipe = load_recipe("csv", [*own, "train.epochs=20", "train.batch_size=64", *words])
        run = create_run(recipe, argv=[], directory=tmp_path / name, start=start)
        return run, train(recipe, run)

    return train_it


def test_a_further_class_is_learned_and_test_rows_stay_test_rows(table: Any) -> None:
    before, first = table("before", {"a": 30, "b": 30})
    run, result = table("more", {"a": 40, "b": 40, "c": 20}, before)
    assert result.trained.class_names == ("a", "b", "c")
    z = first.trained.model.embed(torch.zeros(1, 2))
    assert z.shape == result.trained.model.embed(torch.zeros(1, 2)).shape
    test = load_rows(run.recipe().data, DataContext(), test=find_test_hashes(run)).test
    assert not first.trained.find_labelled(test).any()
    assert len(test) == first.test.classification.n
    assert result.test.classification.accuracy >= first.test.classification.accuracy - 0.1
    new = load_rows(run.recipe().data, DataContext(), test=find_test_hashes(run)).train
    x = result.trained.preprocessor.apply(new.take(new.labels == 2), DataContext()).x
    assert (result.trained.model.posterior(x).argmax(1) == 2).float().mean() > 0.8


# --- mistakes ---


def test_a_run_of_other_settings_columns_or_labels_cannot_be_gone_on_from(
    moons: Any, shared_run: Any, tmp_path: Path
) -> None:
    start, _ = shared_run()

    def refuse(kind: type[FlowgmmError], *words: str) -> FlowgmmError:
        run = create_run(moons(*words), argv=[], directory=tmp_path / "refused", start=start)
        with pytest.raises(kind) as error:
            train(run.recipe(), run)
        shutil.rmtree(run.path)
        return error.value

    error = refuse(RecipeError, "flow.hidden=16", "prior.components=2")
    assert error.details == ("flow.hidden is 16, in the run 8", "prior.components is 2, in the run 1")
    error = refuse(DataError, "data.name=digits", "data.labels.count=50", "data.n!", "data.test_n!")
    assert "no column" in error.details[0]
    error = refuse(DataError, "data.seed=0", "data.test_n=0", "data.split.test=0.9", "data.labels.seed=3")
    assert "the test would be too good" in error.message


def test_a_run_that_is_not_finished_or_gone_is_refused(copy_run: Any, moons: Any, tmp_path: Path) -> None:
    start = copy_run()
    run = create_run(moons(), argv=[], directory=tmp_path / "next", start=start)
    start.update(status="interrupted")
    with pytest.raises(RunError, match="not finished") as error:
        start.require_finished()
    assert error.value.hint == f"continue it: flowgmm train --resume {start.path}"
    shutil.rmtree(start.path)
    with pytest.raises(RunError, match="gone or was trained again"):
        load_start(run)

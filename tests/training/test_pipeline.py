from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import DataError, RunError
from flowgmm_cli.evaluation.evaluation_file import CrossFittedPredictions
from flowgmm_cli.evaluation.folds import split_labelled
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.runs import create_run
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.prepare import prepare

SHORT = "calibration.method=none"


def test_a_run_ends_with_a_tested_calibrated_model(shared_run: Any) -> None:
    run, result = shared_run()
    info, test, calibration = run.info(), result.test, result.calibration
    assert (info["status"], info["error"], info["val_labels"], info["precision"]) == (
        "done", None, False, "fp32",
    )  # fmt: skip
    assert info["rows"] == {"train": 180, "labelled": 12, "val": 20, "val_labelled": 0, "test": 60}
    assert (calibration.method, calibration.rows) == ("cross_fit", 12)
    assert info["seconds"] == pytest.approx(result.seconds, abs=0.01)
    assert float(result.trained.model.temperature) == pytest.approx(calibration.temperature)
    on_disk = json.loads((run.path / "eval" / "test.json").read_text())
    assert on_disk["metrics"] == info["test"] == test.metrics()
    assert on_disk["n"] == 60
    loaded = TrainedModel.load(run.path)
    assert loaded.facts["calibration"] == calibration.to_dict() == info["calibration"]
    for name, value in result.trained.model.state_dict().items():
        assert torch.equal(value, loaded.model.state_dict()[name])


@pytest.mark.parametrize(
    ("words", "folds"),
    [
        ([], 2),
        (["search={keep: 1, folds: 3, epochs: 0.5, candidates: {plain: {}, wide: {flow.hidden: 24}}}"], 3),
    ],
)
def test_predictions_for_labels_not_seen_are_kept(shared_run: Any, words: list[str], folds: int) -> None:
    run, result = shared_run(*words)
    predictions = CrossFittedPredictions.load(run.path / "eval" / "cross_fitted.npz")
    data = prepare(run.recipe(), DataContext())
    labels = data.train.labels.numpy()
    expected = np.full(len(labels), -1)
    for number, fold in enumerate(split_labelled(labels, folds, seed=run.recipe().run.seed)):
        expected[fold.held_out] = number
    assert predictions.rows.tolist() == np.flatnonzero(labels >= 0).tolist()
    assert predictions.folds.tolist() == expected[predictions.rows].tolist()
    assert predictions.labels.tolist() == labels[predictions.rows].tolist()
    assert list(predictions.ids) == data.rows.train.ids[predictions.rows].tolist()
    np.testing.assert_allclose(np.exp(predictions.log_probabilities).sum(1), 1)
    order = np.argsort(result.out_of_fold.rows)
    assert (predictions.predictions == result.out_of_fold.log_joint[order].argmax(1)).all()
    summary = json.loads((run.path / "eval" / "test.json").read_text())["cross_fitted"]
    assert (summary["n"], summary["left_out"]) == (12, 0)
    assert summary["metrics"]["accuracy"] == pytest.approx(predictions.correct.mean())
    assert run.info()["cross_fitted"]["accuracy"] == summary["metrics"]["accuracy"]


def test_the_only_row_of_a_class_is_left_out_and_counted(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    labels = ["a"] * 20 + ["b"] * 20 + ["c"] + [""] * 40
    lines = [
        f"{x:.3f},{y:.3f},{label}" for (x, y), label in zip(draw.normal(size=(81, 2)), labels, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["x,y,label", *lines]))
    words = [f"data.path={tmp_path / 't.csv'}", "data.label=label", "data.split.test=0", "train.epochs=1"]
    recipe = load_recipe("csv", [*words, "search=null", "flow.couplings=1", "flow.hidden=8"])
    run = create_run(recipe, argv=[], directory=tmp_path / "run")
    result = train(recipe, run)
    assert result.test is None
    assert (result.results.split, result.results.classification.n) == ("cross_fitted", 40)
    assert result.results.cross_fitted.left_out == 1
    assert (run.path / "eval" / "cross_fitted.json").is_file()


@pytest.mark.parametrize(
    "words", [["calibration.method=none"], ["data.split.val_labels=true", "data.split.val=0.2"]]
)
def test_without_folds_there_are_no_cross_fitted_predictions(shared_run: Any, words: list[str]) -> None:
    run, result = shared_run(*words)
    assert result.out_of_fold is None
    assert not (run.path / "eval" / "cross_fitted.npz").exists()
    assert run.info()["cross_fitted"] is None
    assert json.loads((run.path / "eval" / "test.json").read_text())["cross_fitted"] is None


def test_training_learns(train_run: Any) -> None:
    _, result = train_run("run", "train.epochs=60", "flow.couplings=4", "flow.hidden=32", SHORT)
    _, start = train_run("start", "train.max_steps=1", "train.lr=1e-6", SHORT)
    assert result.test.classification.accuracy > start.test.classification.accuracy + 0.04
    assert result.test.density_nll < start.test.density_nll - 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["regularisers=[]"],
        ["data.labels.count!", "data.split.val=0"],
        ["data.labels.count!", "objective.use=joint"],  # no row is left for consistency
        ["data.labels.count!", "objective.use=joint", "prior.class_prior=estimated", "regularisers=[]"],
        ["data.split.val=0"],
        ["data.test_n=0", "data.split.test=0"],
        ["train.precision=bf16"],
        ["flow.actnorm=true", "flow.mixing=lu"],
        ["flow.mixing=permutation", "prior.covariance=diagonal", "prior.shared_covariance=true"],
        ["prior.means=logistic_regression", "train.clip_norm=null", "train.ema=0"],
        ["prior.learn_means=false", "prior.learn_scales=false", "train.schedule=constant"],
        ["train.batch_size=100000", "train.labelled_batch_size=100000", "train.warmup=0"],
        ["data.views.strong=[]", "data.transforms=[]"],
        ["train.epochs=1", "train.batch_size=180"],
        ["data.split.val_labels=true", "data.split.val=0.2", "checkpoint.best.metric=val.nll"],
    ],
)
def test_every_way_to_train_ends_with_a_finite_model(train_run: Any, words: list[str]) -> None:
    run, result = train_run("run", *words, "train.epochs=2")
    model = TrainedModel.load(run.path).model
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert (result.test is None) == ("data.test_n=0" in words)
    if result.test is not None:
        assert all(value is None or np.isfinite(value) for value in result.test.metrics().values())
    assert (result.first.metric is None) == ("data.split.val=0" in words)
    assert run.info()["status"] == "done"


PLAIN = ("train.epochs=1", "flow.couplings=1", "data.views.strong=[]", "regularisers=[]")


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "words"), [("aot_eager", ()), ("inductor", PLAIN)])
@pytest.mark.filterwarnings("ignore")  # torch warns itself while it traces: it reads .grad of inner tensors
def test_a_compiled_step_learns_the_same(
    shared_run: Any,
    train_run: Any,
    state_of: Any,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    words: tuple[str, ...],
) -> None:
    """A step of the whole recipe is traced; code is generated for a small step only, as it takes long."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, mode: real(step, mode=mode, backend=backend))
    compiled, _ = train_run("compiled", SHORT, *words, "train.compile=true")
    other = state_of(compiled)
    for name, value in state_of(shared_run(SHORT, *words)[0]).items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)


def test_bf16_learns_about_the_same(train_run: Any, state_of: Any) -> None:
    words = (SHORT, "train.epochs=10", "flow.hidden=32")
    exact, rough = (train_run(p, *words, f"train.precision={p}") for p in ("fp32", "bf16"))
    assert rough[1].test.density_nll == pytest.approx(exact[1].test.density_nll, abs=0.2)
    first, other = state_of(exact[0]), state_of(rough[0])
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert rough[0].info()["precision"] == "bf16"


def test_an_estimated_class_prior_moves_towards_the_truth(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [320, 80])
    x = generator.normal(size=(400, 2)) + np.where(labels == 0, -2.0, 2.0)[:, None]
    hidden = np.full(400, -1)
    hidden[[0, 1, 2, 320, 321, 322]] = [0, 0, 0, 1, 1, 1]
    np.savez(tmp_path / "blobs.npz", train=x, train_label=hidden)
    recipe = tmp_path / "blobs.yaml"
    recipe.write_text(
        f"version: 1\ndata: {{use: arrays, path: {tmp_path / 'blobs.npz'}, split: {{test: 0}}}}\n"
        "flow: {use: realnvp, couplings: 2, hidden: 8}\n"
        "train: {epochs: 5, batch_size: 100, precision: fp32}\ncalibration: {method: none}\n"
        "run: {device: cpu}\n"
    )
    shares = {}
    for prior in ("uniform", "labelled", "estimated"):
        loaded = load_recipe(str(recipe), [f"prior.class_prior={prior}"])
        run = create_run(loaded, argv=[], directory=tmp_path / prior)
        shares[prior] = train(loaded, run).trained.model.mixture.log_weights.exp().tolist()
    assert shares["uniform"] == shares["labelled"] == pytest.approx([0.5, 0.5])
    assert shares["estimated"] == pytest.approx([0.8, 0.2], abs=0.05)


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_an_error_is_written_down_and_passed_on(new_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run("run")

    def broken(*args: Any, **options: Any) -> None:
        raise DataError("the moons are gone")

    monkeypatch.setattr("flowgmm_cli.training.pipeline.prepare", broken)
    with pytest.raises(DataError):
        train(run.recipe(), run)
    assert (run.info()["status"], run.info()["error"]) == ("failed", "the moons are gone")
    monkeypatch.undo()
    train(run.recipe(), run)
    assert (run.info()["status"], run.info()["error"]) == ("done", None)


def test_a_run_stopped_before_it_has_a_preprocessor_gets_its_fingerprint_later(
    new_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run("run")

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flowgmm_cli.data.preprocessor.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        train(run.recipe(), run)
    assert run.status() == "interrupted"
    monkeypatch.undo()
    train(run.recipe(), run)
    assert run.info()["fingerprint"]


def test_a_resumed_run_keeps_preprocessor_and_precision(copy_run: Any) -> None:
    run = copy_run(SHORT)
    run.update(precision="bf16")
    before = (run.checkpoints / "preprocessor.safetensors").stat().st_mtime_ns
    notes: list[str] = []
    train(run.recipe(), run, callbacks=Callbacks(note=notes.append))
    assert (run.checkpoints / "preprocessor.safetensors").stat().st_mtime_ns == before
    assert "device  cpu, bf16" in notes


@pytest.mark.parametrize(
    ("file", "part", "message"),
    [
        ("preprocessor.safetensors", 0.5, "preprocessor"),
        ("preprocessor.json", b"{}", "preprocessor"),
        ("best.safetensors", 0.9, "best"),
        ("last.safetensors", "flow.hidden=9", "does not fit"),
    ],
)
def test_a_damaged_file_stops_the_resumed_run(
    shared_run: Any, copy_run: Any, file: str, part: Any, message: str
) -> None:
    """A part of the file, other contents, or the file of a run with another word."""
    run = copy_run(SHORT)
    content: bytes = (run.checkpoints / file).read_bytes()
    if isinstance(part, str):
        part = (shared_run(SHORT, part)[0].checkpoints / file).read_bytes()
    damaged = part if isinstance(part, bytes) else content[: int(part * len(content))]
    (run.checkpoints / file).write_bytes(damaged)
    with pytest.raises(RunError, match=message):
        train(run.recipe(), run)
    assert run.status() == "failed"
    (run.checkpoints / file).write_bytes(content)
    train(run.recipe(), run)


def test_progress_is_reported_in_order(train_run: Any) -> None:
    reports: list[tuple[int, int, str]] = []
    notes: list[str] = []
    callbacks = Callbacks(lambda done, total, title, _: reports.append((done, total, title)), notes.append)
    train_run("run", callbacks=callbacks)
    assert [item for item in reports if item[2] == "train"] == [(step, 12, "train") for step in range(1, 13)]
    titles = {"train", "calibrate, fold 1 of 2", "calibrate, fold 2 of 2"}
    assert {title for _, _, title in reports} == titles
    assert any("180 training rows, 12 labelled · 20 held out · 60 test rows" in line for line in notes)


@pytest.mark.parametrize(
    ("words", "passes"),
    [
        (("train.epochs=2",), "2"),
        (("train.epochs=3",), None),
    ],
)
def test_a_note_names_a_term_that_never_reaches_its_full_weight(
    train_run: Any, words: tuple[str, ...], passes: str | None
) -> None:
    notes: list[str] = []
    train_run(
        "run", "regularisers=[{use: consistency}]", SHORT, *words, callbacks=Callbacks(note=notes.append)
    )
    line = (
        f"ramp    consistency grows over 3 epochs, and training has {passes}; "
        "regularisers.0.ramp_epochs sets how many"
    )
    assert [note for note in notes if note.startswith("ramp")] == ([line] if passes else [])

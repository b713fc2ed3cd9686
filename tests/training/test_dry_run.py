"""Dry runs, and settings that need held-out rows or labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RecipeError, RunFailedError
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.pipeline import dry_run

PATIENT = "train.early_stopping={patience: 2}"


def terms_of(recipe: Recipe, **callbacks: Any) -> dict[str, float]:
    return dry_run(recipe, context=DataContext(), callbacks=Callbacks(**callbacks))


def test_a_dry_run_reports_the_first_loss_terms_and_writes_no_file(moons: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    before = sorted(tmp_path.iterdir())
    terms = terms_of(moons("train.epochs=1"), note=notes.append)
    assert set(terms) == {"labelled", "unlabelled", "consistency"}
    assert terms["consistency"] == 0  # it grows from nothing
    assert sorted(tmp_path.iterdir()) == before
    for part in ("180 training rows", "device  ", "consistency grows over 3 epochs, and training has 1"):
        assert any(part in line for line in notes)


def test_the_terms_are_those_of_the_first_step_up_to_the_choice_of_rows(moons: Any, train_run: Any) -> None:
    words = ("train.batch_size=180", "train.labelled_batch_size=12", "data.views.strong=[]")
    run, _ = train_run("run", *words, "train.max_steps=1", "calibration.method=none")
    first = read_metrics(run.metrics)[0]
    for name, value in terms_of(moons(*words)).items():
        assert first[f"loss.{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_a_start_that_is_not_finite_is_a_failed_run(moons: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = RealNVP.forward

    def bad(self: RealNVP, x: torch.Tensor) -> Any:
        z, log_det = real(self, x)
        return z, log_det / 0 if torch.is_grad_enabled() else log_det

    monkeypatch.setattr(RealNVP, "forward", bad)
    with pytest.raises(RunFailedError, match=r"step 0 .*flow"):
        terms_of(moons())


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["checkpoint.best.metric=val.nll"], ["checkpoint.best.metric  val.nll"]),
        (["checkpoint.best.metric=val.accuracy", "data.split.val=0"], ["checkpoint.best.metric"]),
        (["checkpoint.best.metric=monitor.loss", "data.split.val=0"], ["checkpoint.best.metric"]),
        ([PATIENT, "data.split.val=0"], ["train.early_stopping"]),
        (["calibration.on=val"], ["calibration.on"]),
        (
            ["calibration.on=val", "data.split.val=0", "checkpoint.best.metric=val.nll", PATIENT],
            ["checkpoint.best.metric", "train.early_stopping", "calibration.on"],
        ),
    ],
)
def test_settings_that_need_held_out_labels_are_refused_before_training(
    train_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], keys: list[str]
) -> None:
    monkeypatch.delattr(TrainContext, "create_step")  # training must not begin
    with pytest.raises(RecipeError, match="held-out rows") as caught:
        train_run("run", *words)
    assert caught.value.exit_code == 3
    assert len(caught.value.details) == len(keys)
    assert all(any(key in line for line in caught.value.details) for key in keys)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["data.split.val_labels=true", "checkpoint.best.metric=val.nll", "calibration.on=val", PATIENT],
        ["checkpoint.best.metric=monitor.agreement", PATIENT],
        ["data.split.val=0", "calibration.on=val", "calibration.method=none"],
    ],
)
def test_settings_are_accepted_with_the_held_out_rows_they_need(moons: Any, words: list[str]) -> None:
    assert terms_of(moons(*words))

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.pipeline import dry_run

MakeRecipe = Callable[..., Recipe]

PATIENT = "train.early_stopping={patience: 2}"


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*args: object, **kwargs: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr(TrainContext, "create_step", fit)


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize(
    ("words", "named"),
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
    train_run: Callable[..., object], tmp_path: Path, words: list[str], named: list[str]
) -> None:
    with pytest.raises(RecipeError, match="held-out rows") as caught:
        train_run("run", *words)
    assert caught.value.exit_code == 3
    assert [any(item in line for line in caught.value.details) for item in named] == [True] * len(named)
    assert len(caught.value.details) == len(named)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_dry_run_refuses_it_too(moons: MakeRecipe) -> None:
    with pytest.raises(RecipeError, match="may not see their labels"):
        dry_run(moons("checkpoint.best.metric=val.nll"), context=DataContext(), callbacks=Callbacks())


@pytest.mark.parametrize(
    "words",
    [
        ["data.split.val_labels=true", "checkpoint.best.metric=val.nll", "calibration.on=val", PATIENT],
        ["checkpoint.best.metric=monitor.agreement", PATIENT],
        ["data.split.val=0", "calibration.on=val", "calibration.method=none"],
    ],
)
def test_settings_are_accepted_with_the_held_out_rows_they_need(moons: MakeRecipe, words: list[str]) -> None:
    assert dry_run(moons(*words), context=DataContext(), callbacks=Callbacks())

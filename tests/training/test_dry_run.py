from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgmm_cli.api import DataContext
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, read_metrics
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.pipeline import TrainResult, dry_run

MakeRecipe = Callable[..., Recipe]
CONTEXT = DataContext()


def test_a_dry_run_reports_the_first_loss_terms_and_writes_no_file(moons: MakeRecipe, tmp_path: Path) -> None:
    notes: list[str] = []
    before = sorted(tmp_path.iterdir())
    terms = dry_run(moons("train.epochs=1"), context=CONTEXT, callbacks=Callbacks(note=notes.append))
    assert set(terms) == {"labelled", "unlabelled", "consistency"}
    assert terms["consistency"] == 0  # it grows from nothing
    assert sorted(tmp_path.iterdir()) == before
    assert any("180 training rows" in line for line in notes)
    assert any(line.startswith("device") for line in notes)
    assert any("consistency grows over 3 epochs, and training has 1" in line for line in notes)


def test_the_terms_are_those_of_the_first_step_up_to_the_choice_of_rows(
    moons: MakeRecipe, train_run: Callable[..., tuple[Run, TrainResult]]
) -> None:
    words = ("train.batch_size=180", "train.labelled_batch_size=12", "data.views.strong=[]")
    terms = dry_run(moons(*words), context=CONTEXT, callbacks=Callbacks())
    run, _ = train_run("run", *words, "train.max_steps=1", "calibration.method=none")
    first = read_metrics(run.metrics)[0]
    for name, value in terms.items():
        assert first[f"loss.{name}"] == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_a_start_that_is_not_finite_is_a_failed_run(
    moons: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowgmm_cli.flows.realnvp import RealNVP

    real = RealNVP.forward

    def bad(self: RealNVP, x: torch.Tensor) -> Any:
        z, log_det = real(self, x)
        return z, log_det / 0 if torch.is_grad_enabled() else log_det

    monkeypatch.setattr(RealNVP, "forward", bad)
    with pytest.raises(RunFailedError, match=r"step 0 .*flow"):
        dry_run(moons(), context=CONTEXT, callbacks=Callbacks())

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowgmm_cli.runs import Run, read_metrics
from flowgmm_cli.trained_model import TrainedModel
from flowgmm_cli.training.callbacks import Interrupt
from flowgmm_cli.training.pipeline import TrainResult, train

TrainRun = Callable[..., tuple[Run, TrainResult]]
NewRun = Callable[..., Run]


def test_an_ensembles_first_member_is_the_run_without_an_ensemble(train_run: TrainRun) -> None:
    _, single = train_run("single")
    run, several = train_run("several", "ensemble=3")
    first, *others = several.trained.model.parts
    (alone,) = single.trained.model.parts
    for name, value in alone.flow.state_dict().items():
        assert torch.equal(value, first.flow.state_dict()[name])
    for other in others:
        assert not torch.equal(other.mixture.means, first.mixture.means)
    assert run.info()["steps"] == 3 * single.trained.recipe.train.epochs * 3 or run.info()["steps"] > 0
    assert len(run.info()["members"]) == 3


def test_each_member_keeps_its_own_metrics_and_checkpoints(train_run: TrainRun) -> None:
    run, _ = train_run("run", "ensemble=2", "calibration.method=none")
    own, other = read_metrics(run.metrics), read_metrics(run.member(1).metrics)
    assert [line["step"] for line in own] == [line["step"] for line in other]
    assert own != other
    assert (run.member(1).checkpoints / "last.safetensors").is_file()


def test_an_ensemble_is_loaded_as_it_was_saved(train_run: TrainRun) -> None:
    run, result = train_run("run", "ensemble=2")
    loaded = TrainedModel.load(run.path)
    assert float(loaded.model.temperature) == pytest.approx(result.calibration.temperature)
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.model.posterior(x), result.trained.model.posterior(x))


def test_an_ensemble_stopped_in_its_second_member_ends_as_if_it_had_not_been(
    train_run: TrainRun, new_run: NewRun
) -> None:
    whole, _ = train_run("whole", "ensemble=2")
    broken = new_run("broken", "ensemble=2")
    steps = len(read_metrics(whole.metrics))
    assert steps
    interrupt = Interrupt()

    class StopInTheSecond(Interrupt):
        calls = 0

        def is_requested(self) -> bool:
            self.calls += 1
            return (broken.path / "members" / "1").exists()

    with pytest.raises(Exception, match="stopped by you"):
        train(broken.recipe(), broken, interrupt=StopInTheSecond())
    assert broken.info()["status"] == "interrupted"
    train(broken.recipe(), broken, interrupt=interrupt)
    assert (whole.path / "model.safetensors").read_bytes() == (broken.path / "model.safetensors").read_bytes()


def test_an_ensemble_is_calibrated_together_with_folds_of_a_single_member(train_run: TrainRun) -> None:
    _, single = train_run("single")
    _, several = train_run("several", "ensemble=2")
    assert several.calibration.method == single.calibration.method == "cross_fit"
    assert several.calibration.noise == single.calibration.noise  # the same folds
    assert several.calibration.temperature != single.calibration.temperature  # but not as sure as one

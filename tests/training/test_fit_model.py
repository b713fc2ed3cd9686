from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.training.callbacks import Interrupt
from flowgmm_cli.training.pipeline import train


def test_an_ensembles_first_member_is_the_run_without_an_ensemble(shared_run: Any) -> None:
    run, several = shared_run("ensemble=3")
    (alone,) = shared_run()[1].trained.model.parts
    first, *others = several.trained.model.parts
    for name, value in alone.flow.state_dict().items():
        assert torch.equal(value, first.flow.state_dict()[name])
    assert not any(torch.equal(other.mixture.means, first.mixture.means) for other in others)
    assert (run.info()["steps"], len(run.info()["members"])) == (3 * 12, 3)


def test_each_member_keeps_its_own_metrics_and_checkpoints(shared_run: Any) -> None:
    run, _ = shared_run("ensemble=2")
    own, other = read_metrics(run.metrics), read_metrics(run.member(1).metrics)
    assert [line["step"] for line in own] == [line["step"] for line in other]
    assert own != other
    assert (run.member(1).checkpoints / "last.safetensors").is_file()


def test_an_ensemble_stopped_in_its_second_member_ends_as_if_it_had_not_been(
    shared_run: Any, new_run: Any
) -> None:
    whole, _ = shared_run("ensemble=2")
    broken = new_run("broken", "ensemble=2")

    class StopInTheSecond(Interrupt):
        def is_requested(self) -> bool:
            return (broken.path / "members" / "1").exists()

    with pytest.raises(InterruptedRunError, match="stopped by you"):
        train(broken.recipe(), broken, interrupt=StopInTheSecond())
    assert broken.info()["status"] == "interrupted"
    train(broken.recipe(), broken)
    assert (whole.path / "model.safetensors").read_bytes() == (broken.path / "model.safetensors").read_bytes()


def test_an_ensemble_is_calibrated_together_with_folds_of_a_single_member(shared_run: Any) -> None:
    single, several = shared_run()[1].calibration, shared_run("ensemble=2")[1].calibration
    assert several.method == single.method == "cross_fit"
    assert several.noise == single.noise  # the same folds
    assert several.temperature != single.temperature  # but not as sure as a single one

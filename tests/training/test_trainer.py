from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.recipe.schema import CheckpointConfig
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.checkpoint import CheckpointSchedule
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.validation import Validator

FORTY = ("train.epochs=20", "train.max_steps=40", "calibration.method=none")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("flow.actnorm=true", "flow.mixing=lu", "flow.couplings=3"),
        ("prior.class_prior=estimated", "train.schedule=cosine", "objective.use=joint"),
        ("flow.dropout=0.5", "train.optimiser=adam", "train.schedule=steps"),
    ],
)
def test_twenty_steps_then_twenty_are_forty_bit_for_bit(
    shared_run: Any, new_run: Any, same_outcome: Any, words: tuple[str, ...]
) -> None:
    whole, _ = shared_run(*FORTY, *words)
    halves = new_run("halves", *FORTY, *words)

    def stop(done: int, *rest: object) -> None:
        if done == 20:
            os.kill(os.getpid(), signal.SIGINT)

    with Interrupt() as interrupt, pytest.raises(InterruptedRunError, match="step 20 of 40"):
        train(halves.recipe(), halves, interrupt=interrupt, callbacks=Callbacks(progress=stop))
    assert halves.status() == "interrupted"
    assert not (halves.path / "model.json").exists()
    train(halves.recipe(), halves)
    same_outcome(whole, halves)


@pytest.mark.parametrize("step", [1, 23, 40])
def test_a_crash_at_any_step_loses_only_the_steps_after_the_checkpoint(
    shared_run: Any, new_run: Any, same_outcome: Any, crash_at: Any, step: int
) -> None:
    words = (*FORTY, "checkpoint.every_steps=5", "train.early_stopping={patience: 50}")
    whole, _ = shared_run(*words)
    broken = new_run("broken", *words)
    crash_at(broken, step)
    train(broken.recipe(), broken)
    same_outcome(whole, broken)


def test_resuming_a_finished_run_changes_nothing(shared_run: Any, copy_run: Any, same_outcome: Any) -> None:
    twice = copy_run()
    train(twice.recipe(), twice)
    same_outcome(shared_run()[0], twice)


def test_the_seed_alone_decides_every_bit(
    shared_run: Any, train_run: Any, same_outcome: Any, state_of: Any
) -> None:
    first, _ = shared_run()
    torch.manual_seed(2)  # of no account
    state = torch.get_rng_state()
    second, _ = train_run("second")
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    same_outcome(first, second)
    other, _ = train_run("other", "run.seed=1")
    left, right = state_of(first), state_of(other)
    weights = [name for name in left if name.startswith("model.flow") and name.endswith("weight")]
    assert weights
    assert not any(torch.equal(left[name], right[name]) for name in weights)


def test_metrics_are_logged_every_so_often_and_at_the_end_of_each_epoch(train_run: Any) -> None:
    run, result = train_run("run", "train.epochs=4", "run.log_every=2", "data.split.val_labels=true")
    lines = read_metrics(run.metrics)
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 3, 4, 6, 8, 9, 10, 12]
    assert [line["epoch"] for line in lines if line["split"] == "val"] == [1, 2, 3, 4]
    for line in lines:
        if line["split"] == "train":
            parts = [value for name, value in line.items() if name.startswith("loss.")]
            assert line["loss"] == pytest.approx(sum(parts), rel=1e-5)
            assert {"loss.labelled", "loss.unlabelled", "loss.consistency", "lr", "seconds"} <= line.keys()
        else:
            assert {"val.accuracy", "val.nll", "monitor.loss", "monitor.agreement"} <= line.keys()
    assert result.first.epochs == 4
    assert result.first.metric == "val.accuracy"


@pytest.mark.parametrize(("limit", "steps"), [(5, 5), (99, 12)])
def test_max_steps_ends_training_early(train_run: Any, limit: int, steps: int) -> None:
    run, result = train_run("run", f"train.max_steps={limit}", "calibration.method=none")
    assert run.info()["steps"] == steps == read_metrics(run.metrics)[-1]["step"]
    assert result.first.epochs == pytest.approx(steps / 3)
    assert (run.path / "model.safetensors").exists()


class Script(Validator):
    """Readings of the watched metric as written, epoch by epoch; the last one stays."""

    values: tuple[float, ...] = ()
    teachers: list[dict[str, Tensor]] = []  # noqa: RUF012 - reset by each test

    def measure(self, teacher: Any) -> dict[str, float]:
        self.teachers.append({name: value.clone() for name, value in teacher.state_dict().items()})
        number = min(len(self.teachers), len(self.values)) - 1
        return {"monitor.loss": self.values[number]}


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> type[Script]:
    monkeypatch.setattr("flowgmm_cli.training.fit_job.Validator", Script)
    monkeypatch.setattr(Script, "teachers", [])
    return Script


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("values", "best", "epochs"),
    [
        ((3.0, 2.0, 1.0, 4.0, 5.0, 0.0), 3, 5),
        ((1.0, 2.0, 3.0), 1, 3),
        ((NAN, 5.0, NAN, 4.0, 6.0, 6.0), 4, 6),
        ((INF, -INF, 2.0, 2.0, 2.0), None, 2),
    ],
)
def test_training_stops_without_progress_with_the_best_model(
    train_run: Any,
    script: type[Script],
    monkeypatch: pytest.MonkeyPatch,
    values: tuple[float, ...],
    best: int | None,
    epochs: int,
) -> None:
    monkeypatch.setattr(script, "values", values)
    words = ("train.epochs=9", "train.early_stopping={patience: 2}", "calibration.method=none")
    run, result = train_run("run", *words)
    assert result.first.epochs == epochs
    # without any finite reading the last model is all there is
    kept = script.teachers[(best or epochs) - 1]
    assert all(torch.equal(kept[name], value) for name, value in result.trained.model.state_dict().items())
    expected = None if best is None else values[best - 1]
    assert run.info()["best"] == {"metric": "monitor.loss", "value": expected, "epoch": best or 0}
    weights = (run.path / "model.safetensors").read_bytes()
    assert train(run.recipe(), run).first.epochs == epochs  # a resumed run is not trained further
    assert (run.path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        ({}, []),
        ({"every_epochs": 2}, [6, 12]),
        ({"every_steps": 5}, [5, 10]),
        ({"every_epochs": 2, "every_steps": 5}, [5, 6, 10, 12]),
        ({"every_minutes": 0.5}, [3, 6, 9, 12]),
    ],
)
def test_the_state_is_saved_by_epochs_steps_or_minutes(
    monkeypatch: pytest.MonkeyPatch, config: dict[str, Any], steps: list[int]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("flowgmm_cli.training.checkpoint.time.monotonic", lambda: clock[0])
    schedule = CheckpointSchedule(CheckpointConfig(**{"every_minutes": None, **config}), steps_per_epoch=3)

    def is_due(step: int) -> bool:
        clock[0] += 10.0  # seconds
        return schedule.is_due(step)

    assert [step for step in range(1, 13) if is_due(step)] == steps


def test_several_processes_save_when_they_have_agreed_that_it_is_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr("flowgmm_cli.training.checkpoint.time.monotonic", lambda: clock[0])
    schedule = CheckpointSchedule(CheckpointConfig(every_minutes=1), steps_per_epoch=3)
    assert not schedule.is_late()
    clock[0] = 61
    assert schedule.is_late()
    assert not schedule.is_due(1, is_late=False)
    assert schedule.is_due(2, is_late=True)
    assert not schedule.is_late()
    assert schedule.is_due(3, is_late=True)  # by another's clock


def test_each_step_has_random_numbers_of_its_own(train_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowgmm_cli.views.rows import Noise

    seeds: list[int] = []
    real = Noise.__call__

    def look(self: Noise, x: Tensor, generator: torch.Generator) -> Tensor:
        seeds.append(generator.initial_seed())
        return real(self, x, generator)

    monkeypatch.setattr(Noise, "__call__", look)
    train_run("run", "data.split.val=0", "calibration.method=none")
    assert len(set(seeds)) == len(seeds) == 12

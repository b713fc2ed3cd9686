from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgmm_cli.errors import RunError
from flowgmm_cli.files import read_tensors, write_tensors
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.runs import Run
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.checkpoint import BestModel, Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.optim import create_ema_model, create_optimiser
from flowgmm_cli.training.pipeline import train

MakeModel = Callable[..., FlowMixture]
NewRun = Callable[..., Run]
State = tuple[FlowMixture, FlowMixture, torch.optim.Optimizer]


def fresh(make_model: MakeModel, seed: int = 0, features: int = 2) -> State:
    model = make_model(features, seed=seed)
    return (
        model,
        create_ema_model(make_model(features, seed=seed + 100)),
        create_optimiser(model, TrainConfig()),
    )


def step(state: State, seed: int = 0) -> None:
    model, _, optimiser = state
    x = torch.randn(8, model.mixture.features, generator=torch.Generator().manual_seed(seed))
    optimiser.zero_grad()
    torch.autograd.backward(-model.log_prob(x).mean())
    optimiser.step()


def everything(state: State) -> dict[str, Tensor]:
    model, teacher, optimiser = state
    result = {f"m.{name}": value for name, value in model.state_dict().items()}
    result |= {f"t.{name}": value for name, value in teacher.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        result |= {f"o.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    return {name: value.clone() for name, value in result.items()}


@pytest.fixture
def saved(tmp_path: Path, make_model: MakeModel) -> tuple[Path, State]:
    state = fresh(make_model)
    step(state, 0)
    step(state, 1)
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, *state, Progress(step=2, seconds=1.5, best=-0.1, best_epoch=3, stale=1))
    return file, state


def test_everything_comes_back_and_the_next_step_is_the_same(
    saved: tuple[Path, State], make_model: MakeModel
) -> None:
    file, state = saved
    other = fresh(make_model, seed=5)
    progress = load_checkpoint(file, *other)
    assert progress == Progress(step=2, seconds=1.5, best=-0.1, best_epoch=3, stale=1, stopped=False)
    for _ in range(2):
        first, two = everything(state), everything(other)
        assert first.keys() == two.keys()
        assert all(torch.equal(first[name], two[name]) for name in first)
        step(state, 9)
        step(other, 9)


def test_the_state_before_the_first_step_can_be_saved_too(tmp_path: Path, make_model: MakeModel) -> None:
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, *fresh(make_model), Progress())
    other = fresh(make_model, seed=3)
    assert load_checkpoint(file, *other) == Progress()
    step(other)


def test_a_truncated_checkpoint_is_a_run_error(saved: tuple[Path, State], make_model: MakeModel) -> None:
    file, _ = saved
    whole = file.read_bytes()
    for length in (0, 8, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(RunError, match="not a readable safetensors file") as caught:
            load_checkpoint(file, *fresh(make_model))
        assert caught.value.exit_code == 6


def test_a_foreign_checkpoint_is_a_run_error(tmp_path: Path, make_model: MakeModel) -> None:
    file = tmp_path / "last.safetensors"
    write_tensors(file, {"weight": torch.ones(3)})
    with pytest.raises(RunError, match="not written by this version"):
        load_checkpoint(file, *fresh(make_model))
    torch.save({"model": torch.ones(3)}, file)
    with pytest.raises(RunError, match="not a readable safetensors file"):
        load_checkpoint(file, *fresh(make_model))


def test_a_checkpoint_of_another_model_is_a_run_error(
    saved: tuple[Path, State], make_model: MakeModel
) -> None:
    with pytest.raises(RunError, match="does not fit this model") as caught:
        load_checkpoint(saved[0], *fresh(make_model, features=3))
    assert any("size mismatch" in line for line in caught.value.details)


@pytest.mark.parametrize(
    ("change", "metadata"),
    [
        ({"optimiser.0.exp_avg": torch.ones(1)}, {}),
        ({"optimiser.99.exp_avg": torch.ones(1)}, {}),
        ({"optimiser.x.exp_avg": torch.ones(1)}, {}),
        ({}, {"progress": "{"}),
        ({}, {"progress": "[]"}),
        ({}, {"progress": json.dumps({"steps": 3})}),
    ],
)
def test_a_checkpoint_with_a_damaged_part_is_a_run_error(
    saved: tuple[Path, State], make_model: MakeModel, change: dict[str, Tensor], metadata: dict[str, str]
) -> None:
    tensors, before = read_tensors(saved[0], "checkpoint")
    write_tensors(saved[0], tensors | change, before | metadata)
    with pytest.raises(RunError, match="damaged"):
        load_checkpoint(saved[0], *fresh(make_model))


def test_a_checkpoint_without_a_weight_is_a_run_error(
    saved: tuple[Path, State], make_model: MakeModel
) -> None:
    tensors, metadata = read_tensors(saved[0], "checkpoint")
    del tensors["teacher.mixture.means"]
    write_tensors(saved[0], tensors, metadata)
    with pytest.raises(RunError, match="does not fit this model"):
        load_checkpoint(saved[0], *fresh(make_model))


def test_the_best_model_is_a_copy_that_is_written_when_it_is_new(
    tmp_path: Path, make_model: MakeModel
) -> None:
    file = tmp_path / "best.safetensors"
    best, teacher = BestModel(file), make_model(seed=0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    best.save()
    assert not file.exists()
    best.update(teacher)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
    best.save()
    written = file.stat().st_mtime_ns
    best.save()
    assert file.stat().st_mtime_ns == written
    for source in (best, BestModel(file)):
        other = make_model(seed=1)
        source.restore(other)
        assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())


def test_without_a_best_model_the_teacher_keeps_its_own_weights(make_model: MakeModel) -> None:
    teacher = make_model()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    BestModel(None).restore(teacher)
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())


def full_disk(monkeypatch: pytest.MonkeyPatch, fails_after: int) -> None:
    """Let the disk be full after so many more files."""
    left, real = [fails_after], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("step_number", [3, 11])
@pytest.mark.parametrize("files", [0, 1])
def test_a_full_disk_keeps_the_last_checkpoint_and_leaves_no_rubbish(
    new_run: NewRun, same_outcome: Any, train_run: Any, step_number: int, files: int
) -> None:
    words = ("checkpoint.every_steps=2", "calibration.method=none", "train.early_stopping={patience: 9}")
    run = new_run("run", *words)
    patch = pytest.MonkeyPatch()

    def fill(done: int, *rest: object) -> None:
        if done == step_number:
            full_disk(patch, files)

    with pytest.raises(OSError, match="No space"):
        train(run.recipe(), run, callbacks=Callbacks(progress=fill))
    patch.undo()
    assert not [path for path in run.path.rglob("*") if path.name.endswith(".tmp")]
    last = run.checkpoints / "last.safetensors"
    progress = json.loads(read_tensors(last, "checkpoint")[1]["progress"])
    assert step_number - 3 <= progress["step"] <= step_number + 2
    assert run.info()["status"] == "running"  # there was no room for another word

    train(run.recipe(), run)
    whole, _ = train_run("whole", *words)
    same_outcome(whole, run)

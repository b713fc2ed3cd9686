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
from flowgmm_cli.training.callbacks import Callbacks
from flowgmm_cli.training.checkpoint import BestModel, Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.optim import create_ema_model, create_optimiser
from flowgmm_cli.training.pipeline import train

State = tuple[FlowMixture, FlowMixture, torch.optim.Optimizer]


def fresh(make_model: Any, seed: int = 0, features: int = 2) -> State:
    model, other = make_model(features, seed=seed), make_model(features, seed=seed + 100)
    return model, create_ema_model(other), create_optimiser(model, TrainConfig())


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
def saved(tmp_path: Path, make_model: Any) -> tuple[Path, State]:
    state = fresh(make_model)
    step(state, 0)
    step(state, 1)
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, *state, Progress(step=2, seconds=1.5, best=-0.1, best_epoch=3, stale=1))
    return file, state


def test_everything_comes_back_and_the_next_step_is_the_same(
    saved: tuple[Path, State], make_model: Any
) -> None:
    file, state = saved
    other = fresh(make_model, seed=5)
    progress = load_checkpoint(file, *other)
    assert progress == Progress(step=2, seconds=1.5, best=-0.1, best_epoch=3, stale=1, stopped=False)
    for _ in range(2):
        first, second = everything(state), everything(other)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)
        step(state, 9)
        step(other, 9)


def test_the_state_before_the_first_step_can_be_saved_too(tmp_path: Path, make_model: Any) -> None:
    file = tmp_path / "last.safetensors"
    save_checkpoint(file, *fresh(make_model), Progress())
    other = fresh(make_model, seed=3)
    assert load_checkpoint(file, *other) == Progress()
    step(other)


def truncate(share: float, less: int = 0) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size) - less])


def change(
    tensors: dict[str, Tensor] | None = None, *, without: str = "", **metadata: str
) -> Callable[[Path], object]:
    def run(file: Path) -> None:
        before, header = read_tensors(file, "checkpoint")
        kept = {name: value for name, value in before.items() if name != without}
        write_tensors(file, kept | (tensors or {}), header | metadata)

    return run


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (truncate(0), "not a readable safetensors file"),
        (lambda file: file.write_bytes(file.read_bytes()[:8]), "not a readable safetensors file"),
        (truncate(0.5), "not a readable safetensors file"),
        (truncate(1, less=1), "not a readable safetensors file"),
        (lambda file: torch.save({"model": torch.ones(3)}, file), "not a readable safetensors file"),
        (lambda file: write_tensors(file, {"weight": torch.ones(3)}), "not written by this version"),
        (change({"optimiser.0.exp_avg": torch.ones(1)}), "damaged"),
        (change({"optimiser.99.exp_avg": torch.ones(1)}), "damaged"),
        (change({"optimiser.x.exp_avg": torch.ones(1)}), "damaged"),
        (change(progress="{"), "damaged"),
        (change(progress="[]"), "damaged"),
        (change(progress=json.dumps({"steps": 3})), "damaged"),
        (change(without="teacher.mixture.means"), "does not fit this model"),
    ],
)
def test_a_damaged_checkpoint_is_a_run_error(
    saved: tuple[Path, State], make_model: Any, harm: Callable[[Path], object], message: str
) -> None:
    harm(saved[0])
    with pytest.raises(RunError, match=message) as caught:
        load_checkpoint(saved[0], *fresh(make_model))
    assert caught.value.exit_code == 6


def test_a_checkpoint_of_another_model_is_a_run_error(saved: tuple[Path, State], make_model: Any) -> None:
    with pytest.raises(RunError, match="does not fit this model") as caught:
        load_checkpoint(saved[0], *fresh(make_model, features=3))
    assert any("size mismatch" in line for line in caught.value.details)


def test_the_best_model_is_a_copy_that_is_written_when_it_is_new(tmp_path: Path, make_model: Any) -> None:
    file = tmp_path / "best.safetensors"
    best, teacher = BestModel(file), make_model(seed=0)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}

    def restored(source: BestModel, seed: int) -> bool:
        other = make_model(seed=seed)
        source.restore(other)
        return all(torch.equal(before[name], value) for name, value in other.state_dict().items())

    best.save()
    assert not file.exists()
    assert restored(best, seed=0)  # without a best model the teacher keeps its own weights
    best.update(teacher)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.zero_()
    best.save()
    written = file.stat().st_mtime_ns
    best.save()
    assert file.stat().st_mtime_ns == written
    assert restored(best, seed=1)
    assert restored(BestModel(file), seed=1)


def full_disk(monkeypatch: pytest.MonkeyPatch, fails_after: int) -> None:
    """Let the disk be full after so many more files."""
    left, real = [fails_after], os.fsync

    def fsync(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(("step_number", "files"), [(3, 0), (11, 1)])
def test_a_full_disk_keeps_the_last_checkpoint_and_leaves_no_rubbish(
    new_run: Any, same_outcome: Any, shared_run: Any, step_number: int, files: int
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
    same_outcome(shared_run(*words)[0], run)

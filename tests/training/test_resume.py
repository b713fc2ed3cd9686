"""Real processes that are really killed."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked import MAIN

from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import train

WORDS = ("train.epochs=8", "checkpoint.every_steps=5", "train.early_stopping={patience: 50}")
# `flowgmm`, but the process is gone just before or after it renames its N-th file, or after its N-th step
KILLED = """
import os, signal, sys
from pathlib import Path
from torch.optim.optimizer import register_optimizer_step_post_hook
left, when = int(sys.argv.pop(1)), sys.argv.pop(1)
real = Path.replace
def is_last():
    global left
    left -= 1
    return left == 0
def replace(self, target):
    kill = when != "step" and is_last()
    if not kill or when == "after":
        real(self, target)
    if kill:
        os.kill(os.getpid(), signal.SIGKILL)
    return Path(target)
def step(*args):
    if when == "step" and is_last():
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = replace
register_optimizer_step_post_hook(step)
"""


@pytest.mark.slow
def test_a_run_killed_again_and_again_is_resumed_to_the_same_result(
    moons_file: Path, tmp_path: Path, train_run: Any, same_outcome: Any, start_python: Any
) -> None:
    run = Run(tmp_path / "killed")

    def kill(number: int, when: str, *words: object) -> None:
        process = start_python(KILLED + MAIN, number, when, "train", *words)
        out, err = process.communicate()
        assert (process.returncode, out) == (-signal.SIGKILL, ""), err
        assert run.status() == "killed"
        assert not (run.path / "model.json").exists()

    kill(5, "before", moons_file, *WORDS, "--run-dir", run.path)
    kill(3, "after", "--resume", run.path)  # one of the two files of the preprocessor is there
    kill(3, "step", "--resume", run.path)  # before the first checkpoint
    kill(5, "before", "--resume", run.path)  # the best model is newer than the last checkpoint
    assert not (run.checkpoints / "last.safetensors").exists()
    kill(12, "step", "--resume", run.path)
    assert (run.checkpoints / "last.safetensors").exists()
    kill(25, "step", "--resume", run.path)  # while a fold of the calibration is trained
    kill(4, "after", "--resume", run.path)
    assert (run.path / "model.safetensors").exists()
    train(run.recipe(), run)
    whole, _ = train_run("whole", *WORDS)
    same_outcome(whole, run)
    assert list(run.path.rglob(".*.tmp")) == []  # the next process removes what a killed one leaves


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(item, marks=pytest.mark.slow) for item in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_an_interrupted_run_saves_its_state_and_exits_with_130(
    moons_file: Path, tmp_path: Path, start_python: Any, number: int
) -> None:
    run = Run(tmp_path / "stopped")
    words = (
        "train.epochs=100000",
        "train.max_steps=100000",
        "calibration.method=none",
        "--run-dir",
        run.path,
    )
    process = start_python(MAIN, "train", moons_file, *words)
    limit = time.monotonic() + 120
    while not (run.metrics.exists() and run.metrics.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"--resume {run.path}" in err
    assert "Traceback" not in err
    assert out == ""
    assert run.status() == "interrupted"
    assert (run.checkpoints / "last.safetensors").exists()
    assert not (run.path / "model.json").exists()

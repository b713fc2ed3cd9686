"""Real processes that are really killed."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import TrainResult, train

TrainRun = Callable[..., tuple[Run, TrainResult]]
Same = Callable[[Run, Run], None]

WORDS = ("train.epochs=8", "checkpoint.every_steps=5", "train.early_stopping={patience: 50}")
# `flowgmm`, but at the N-th file that is written the process is gone, just before or just after the rename
KILLED = """
import os, signal, sys
from pathlib import Path
from flowgmm_cli import files
left, after = int(sys.argv.pop(1)), sys.argv.pop(1) == "after"
real = Path.replace
def replace(self, target):
    global left
    left -= 1
    if left == 0 and after:
        real(self, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.replace = replace
from flowgmm_cli.__main__ import main
main()
"""
FULL = """
import errno, os, sys
left = int(sys.argv.pop(1))
real = os.fsync
def fsync(handle):
    global left
    left -= 1
    if left < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(handle)
os.fsync = fsync
from flowgmm_cli.__main__ import main
main()
"""


def flowgmm(*words: object, code: str | None = None) -> list[str]:
    start = ["-m", "flowgmm_cli"] if code is None else ["-c", code]
    return [sys.executable, *start, *map(str, words)]


def finish(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def resume(run: Path) -> None:
    done = finish(flowgmm("train", "--resume", run, "--quiet"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    limit = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.002)


MOMENTS = [(files, when) for files in range(4, 21, 3) for when in ("before", "after")]
SLOW = [pytest.param(*moment, marks=pytest.mark.slow) for moment in MOMENTS]


@pytest.mark.parametrize(("files", "when"), [(15, "before"), *SLOW])
def test_a_run_killed_while_writing_resumes_to_the_same_result(
    moons_file: Path, tmp_path: Path, train_run: TrainRun, same_outcome: Same, files: int, when: str
) -> None:
    run = Run(tmp_path / "killed")
    done = finish(flowgmm(files, when, "train", moons_file, *WORDS, "--run-dir", run.path, code=KILLED))
    assert done.returncode == -signal.SIGKILL
    assert run.status() == "killed"
    resume(run.path)
    whole, _ = train_run("whole", *WORDS)
    same_outcome(whole, run)
    assert len(list(run.path.rglob("*.tmp"))) <= 1  # the file that was being written


LONG = ("train.epochs=300", "run.log_every=20", "checkpoint.every_steps=100", "calibration.epochs=1.0")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before the first checkpoint", "in the middle", "during calibration"])
def test_a_killed_run_can_be_resumed(
    moons_file: Path, tmp_path: Path, train_run: TrainRun, same_outcome: Same, moment: str
) -> None:
    run = Run(tmp_path / "killed")
    last = run.checkpoints / "last.safetensors"

    def lines() -> int:
        return run.metrics.read_text().count("\n") if run.metrics.exists() else 0

    ready: Callable[[], bool] = {
        "before the first checkpoint": lambda: lines() > 0,
        "in the middle": lambda: last.exists() and lines() > 100,
        "during calibration": lambda: '"step": 900,' in (run.metrics.read_text() if lines() else ""),
    }[moment]
    process = subprocess.Popen(
        flowgmm("train", moons_file, *LONG, "--run-dir", run.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(ready, process)
    if moment == "during calibration":
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert last.exists() or moment == "before the first checkpoint"
    assert not (run.path / "model.json").exists()
    assert run.status() == "killed"
    resume(run.path)
    whole, _ = train_run("whole", *LONG)
    same_outcome(whole, run)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_saves_its_state_and_exits_with_130(
    moons_file: Path, tmp_path: Path, number: int
) -> None:
    run = Run(tmp_path / "stopped")
    words = ("train.epochs=100000", "train.max_steps=100000", "calibration.method=none")
    process = subprocess.Popen(
        flowgmm("train", moons_file, *words, "--run-dir", run.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: run.metrics.exists() and bool(run.metrics.read_text()), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"--resume {run.path}" in err
    assert "Traceback" not in err
    assert out == ""
    assert run.status() == "interrupted"
    assert (run.checkpoints / "last.safetensors").exists()
    assert not (run.path / "model.json").exists()


@pytest.mark.parametrize("files", [12, pytest.param(5, marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_command_with_1_and_a_next_step(
    moons_file: Path, tmp_path: Path, files: int
) -> None:
    run = Run(tmp_path / "full")
    done = finish(flowgmm(files, "train", moons_file, *WORDS, "--run-dir", run.path, code=FULL))
    assert done.returncode == 1
    assert "disk is full" in done.stderr
    assert f"--resume {run.path}" in done.stderr
    assert "Traceback" not in done.stderr
    assert os.strerror(errno.ENOSPC) not in done.stdout
    assert not list(run.path.rglob("*.tmp"))
    train(run.recipe(), run)
    assert run.status() == "done"

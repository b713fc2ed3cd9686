"""Trainings that are killed at a random moment and resumed.

Continuous integration kills a few; `pytest tests/robustness/test_kills.py -m slow --kills 100` kills more.
"""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.files import remove_leftovers
from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import train

WORDS = ("checkpoint.every_steps=2", "train.early_stopping={patience: 50}")


def train_until(seconds: float | None, moons_file: Path, run: Run, *words: str) -> float:
    """Train in a process and kill it some seconds after its run has appeared; return the time that it ran."""
    command = ["train", str(moons_file), *words, "--run-dir", str(run.path)]
    with subprocess.Popen(
        [sys.executable, "-m", "flowgmm_cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while not (run.path / "run.json").exists():
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.002)
        start = time.monotonic()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    assert process.returncode in (0, -signal.SIGKILL)
    return time.monotonic() - start


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("ensemble=2",)], ids=["single", "ensemble"])
def test_a_training_killed_at_any_moment_is_resumed_to_the_same_bytes(
    moons_file: Path,
    tmp_path: Path,
    train_run: Callable[..., Any],
    same_outcome: Callable[[Run, Run], None],
    pytestconfig: pytest.Config,
    words: tuple[str, ...],
) -> None:
    words = (*WORDS, *words)
    whole, _ = train_run("whole", *words)
    run = Run(tmp_path / "killed")
    duration = train_until(None, moons_file, run, *words)
    same_outcome(whole, run)
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for number in range(pytestconfig.getoption("kills")):
        shutil.rmtree(run.path)
        moment = moments.uniform(0, duration)
        sys.stdout.write(f"seed {seed}, kill {number} after {moment:.3f} s\n")  # shown if the test fails
        train_until(moment, moons_file, run, *words)
        assert run.status() in ("killed", "done")
        remove_leftovers.cache_clear()  # a process looks at a folder once
        train(run.recipe(), run)
        same_outcome(whole, run)
        assert list(run.path.rglob(".*.tmp")) == []

"""Trainings that are killed at a random moment and resumed.

Continuous integration kills a few; `pytest tests/robustness/test_kills.py -m slow --kills 100` kills more.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import MAIN

from flowgmm_cli.files import remove_leftovers
from flowgmm_cli.runs import Run
from flowgmm_cli.training.pipeline import train

WORDS = ("checkpoint.every_steps=2", "train.early_stopping={patience: 50}")


def time_training(process: Any, run: Run, seconds: float = 300) -> float:
    """Kill a training some seconds after its run has appeared; return the time that it ran."""
    while not (run.path / "run.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)
    start = time.monotonic()
    while process.poll() is None and time.monotonic() < start + seconds:
        time.sleep(0.005)
    end = time.monotonic()
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    _, err = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), err
    return end - start


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("ensemble=2",)], ids=["single", "ensemble"])
def test_a_training_killed_at_any_moment_is_resumed_to_the_same_bytes(
    moons_file: Path,
    tmp_path: Path,
    train_run: Callable[..., Any],
    same_outcome: Callable[[Run, Run], None],
    start_python: Callable[..., Any],
    pytestconfig: pytest.Config,
    words: tuple[str, ...],
) -> None:
    words = (*WORDS, *words)
    whole, _ = train_run("whole", *words)
    run = Run(tmp_path / "killed")
    command = (MAIN, "train", moons_file, *words, "--run-dir", run.path)
    duration = time_training(start_python(*command), run)
    same_outcome(whole, run)
    seed = random.randrange(2**32)
    moments = random.Random(seed)
    for number in range(pytestconfig.getoption("kills")):
        shutil.rmtree(run.path)
        moment = moments.uniform(0, duration)
        sys.stdout.write(f"seed {seed}, kill {number} after {moment:.3f} s\n")  # shown if the test fails
        time_training(start_python(*command), run, moment)
        assert run.status() in ("killed", "done")
        remove_leftovers.cache_clear()  # a process looks at a folder once
        train(run.recipe(), run)
        same_outcome(whole, run)
        assert list(run.path.rglob(".*.tmp")) == []

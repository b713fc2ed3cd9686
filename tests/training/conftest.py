"""Runs of the tiny recipe."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgmm_cli.files import read_tensors
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.metrics_log import read_metrics
from flowgmm_cli.training.pipeline import TrainResult, train

START = """
import torch
from flowgmm_cli.training.distributed import Distributed, init_process_group
"""

TrainRun = Callable[..., tuple[Run, TrainResult]]


@pytest.fixture
def new_run(moons: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Run]:
    """Make a run of the tiny recipe with some words: `new_run("name", "train.epochs=2")`."""

    def make(name: str, *words: str) -> Run:
        return create_run(moons(*words), argv=[], directory=tmp_path / name)

    return make


@pytest.fixture
def train_run(new_run: Callable[..., Run]) -> TrainRun:
    """Make such a run and train it to its end."""

    def run_it(name: str, *words: str, **options: Any) -> tuple[Run, TrainResult]:
        run = new_run(name, *words)
        return run, train(run.recipe(), run, **options)

    return run_it


@pytest.fixture
def state_of() -> Callable[[Run], dict[str, Tensor]]:
    """Student, teacher and optimiser as in the run's last checkpoint."""

    def read(run: Run) -> dict[str, Tensor]:
        tensors, _ = read_tensors(run.checkpoints / "last.safetensors", "checkpoint")
        assert {name.split(".")[0] for name in tensors} == {"model", "teacher", "optimiser"}
        assert all(value.isfinite().all() for value in tensors.values())
        return tensors

    return read


@pytest.fixture
def same_outcome(state_of: Callable[[Run], dict[str, Tensor]]) -> Callable[[Run, Run], None]:
    """Fail unless two finished runs agree in every bit and every logged number, and log no step twice."""

    def lines(run: Run) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run.metrics)]

    def check(one: Run, other: Run) -> None:
        first, second = state_of(one), state_of(other)
        assert first.keys() == second.keys()
        assert [name for name in first if not torch.equal(first[name], second[name])] == []
        for file in ("model.safetensors", "checkpoints/best.safetensors", "eval/test.json"):
            assert (one.path / file).exists() == (other.path / file).exists()
        assert (one.path / "model.safetensors").read_bytes() == (
            other.path / "model.safetensors"
        ).read_bytes()
        assert lines(one) == lines(other)
        places = [(line["step"], line["split"]) for line in lines(one)]
        assert len(places) == len(set(places))
        for name in ("test", "best", "calibration", "steps", "epochs"):
            assert one.info()[name] == other.info()[name]
        assert one.info()["status"] == other.info()["status"] == "done"

    return check


@pytest.fixture
def run_all() -> Callable[[str, int], list[str]]:
    """Run code in processes that know of each other, `run_all(code, count)`; what each printed."""

    def run_it(code: str, count: int) -> list[str]:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started = [
            subprocess.Popen(
                [sys.executable, "-c", START + code],
                env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(count)
        ]
        said = [process.communicate(timeout=120) for process in started]
        assert not any(process.returncode for process in started), said
        return [out for out, _ in said]

    return run_it

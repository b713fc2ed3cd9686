"""Runs of the tiny recipe."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import ForkedProcess

from flowgmm_cli.runs import Run
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.pipeline import train

START = """
import torch
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.load import parse_resolved
from flowgmm_cli.training.distributed import Distributed, init_process_group
from flowgmm_cli.training.step import build_step
from flowgmm_cli.training.trainer import Trainer

def trainer_of(flow, x, group, *, labelled, regularisers, **train):
    g = torch.Generator().manual_seed(4)
    labels = torch.full((len(x),), -1)
    labels[:labelled] = torch.arange(labelled) % 3
    mixture = GaussianMixture(torch.randn(3, x.shape[1], generator=g), learn_means=True)
    train = {"labelled_batch_size": labelled, "lr": 1e-2, **train}
    data = {"use": "sklearn", "name": "two_moons", "views": {"strong": []}}
    values = {"version": 1, "data": data, "regularisers": regularisers, "train": train}
    recipe = parse_resolved(values, "test")
    model = FlowMixture(flow, mixture).to(x.dtype)
    step = build_step(recipe, model, features=x.shape[1], labelled=labelled, unlabelled=len(x))
    return Trainer(step, Tensors(x, labels), recipe, Engine(torch.device("cpu"), "fp32"), group=group)
"""


# a thread of gloo may still free a tensor of Python, and it aborts if the interpreter is ending
END = """
import os, sys
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def run_all(tmp_path: Path) -> Callable[[str, int], list[str]]:
    """Run code in processes that know of each other, `run_all(code, count)`; what each printed."""

    def run_it(code: str, count: int) -> list[str]:
        with socket.socket() as item:
            item.bind(("127.0.0.1", 0))
            port = item.getsockname()[1]
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started = []
        for rank in range(count):
            env = {**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            (tmp_path / str(rank)).mkdir(exist_ok=True)
            started.append(ForkedProcess(START + code + END, folder=tmp_path / str(rank), env=env))
        said = [process.communicate(timeout=120) for process in started]
        assert not any(process.returncode for process in started), said
        return [out for out, _ in said]

    return run_it


class InterruptAfter(Interrupt):
    """Requests a stop after a number of steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def is_requested(self) -> bool:
        self._left -= 1
        return self._left <= 0


class CrashError(BaseException):
    """Stands for the end of the process: nothing after it is saved."""


@pytest.fixture
def crash_at() -> Callable[[Run, int], None]:
    """Train a run and crash when it has come to a step: `crash_at(run, 5)`."""

    def train_and_crash(run: Run, step: int) -> None:
        def crash(done: int, total: int, title: str, detail: str) -> None:
            if done == step:
                raise CrashError

        with pytest.raises(CrashError):
            train(run.recipe(), run, callbacks=Callbacks(progress=crash))

    return train_and_crash


@pytest.fixture
def interrupt_after() -> type[Interrupt]:
    """Stop a training after a number of steps: `train(recipe, run, interrupt=interrupt_after(9))`."""
    return InterruptAfter

"""A recipe that trains in about a second, and the smallest model."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker a core; before torch is imported

sys.path.insert(0, str(Path(__file__).parent))

import torch
from forked import ForkedProcess
from torch import Tensor

from flowgmm_cli.files import read_tensors
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe

if TYPE_CHECKING:
    from flowgmm_cli.runs import Run
    from flowgmm_cli.training.pipeline import TrainResult

MOONS = """\
version: 1
name: moons
data:
  use: sklearn
  name: two_moons
  n: 200
  test_n: 60
  labels: {count: 12}
  split: {val: 0.1}
  transforms: [{use: scale}]
  views:
    strong: [{use: noise, scale: 0.1}, {use: drop, rate: 0.1}]
flow: {use: realnvp, couplings: 2, hidden: 8, depth: 1}
train: {epochs: 4, batch_size: 60, labelled_batch_size: 8, lr: 1e-2, precision: fp32}
calibration: {folds: 2}
run: {device: cpu, log_every: 2}
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="trainings to kill, for tests/robustness")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Use every core for the whole suite, and this process alone for named tests."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return len(os.sched_getaffinity(0)) if whole else 0


MakeRecipe = Callable[..., Recipe]
MakeModel = Callable[..., FlowMixture]


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Neither read nor write the caches of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWGMM_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def load_benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Import a module of `benchmarks/` by its name; afterwards all of them are forgotten."""
    folder = Path(__file__).resolve().parent.parent / "benchmarks"
    monkeypatch.syspath_prepend(str(folder))
    yield import_module
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture
def moons_file(tmp_path: Path) -> Path:
    """The tiny recipe as a file: 180 training rows, 20 held out, 3 steps an epoch."""
    file = tmp_path / "moons.yaml"
    file.write_text(MOONS)
    return file


@pytest.fixture
def moons(moons_file: Path, tmp_path: Path) -> MakeRecipe:
    """Load the tiny recipe with some words: `moons("train.epochs=2")`."""

    def make(*words: str) -> Recipe:
        return load_recipe(str(moons_file), [f"run.dir={tmp_path / 'runs'}", *words])

    return make


@pytest.fixture
def make_model() -> MakeModel:
    """A FlowMixture whose flow is not the identity: `make_model(features, classes)`."""

    def make(features: int = 2, classes: int = 3, *, seed: int = 0, size: float = 0.5) -> FlowMixture:
        generator = torch.Generator().manual_seed(seed)
        flow = RealNVP(features, couplings=2, hidden=16, depth=1, generator=generator)
        means = torch.randn(classes, features, generator=generator)
        mixture = GaussianMixture(means, weights=torch.arange(1.0, classes + 1))
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.normal_(std=size, generator=generator)
        return FlowMixture(flow, mixture)

    return make


@pytest.fixture
def new_run(moons: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Run]:
    """Make a run of the tiny recipe with some words: `new_run("name", "train.epochs=2")`."""

    from flowgmm_cli.runs import create_run

    def make(name: str, *words: str) -> Run:
        return create_run(moons(*words), argv=[], directory=tmp_path / name)

    return make


@pytest.fixture
def train_run(new_run: Callable[..., Run]) -> Callable[..., tuple[Run, TrainResult]]:
    """Make such a run and train it to its end."""
    from flowgmm_cli.training.pipeline import train

    def run_it(name: str, *words: str, **options: Any) -> tuple[Run, TrainResult]:
        run = new_run(name, *words)
        return run, train(run.recipe(), run, **options)

    return run_it


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Run, TrainResult]]:
    """Train the tiny recipe with some words, once for all tests; they only read the run."""
    from flowgmm_cli.runs import create_run
    from flowgmm_cli.training.pipeline import train

    @cache
    def run_it(*words: str) -> tuple[Run, TrainResult]:
        folder = tmp_path_factory.mktemp("shared")
        (folder / "moons.yaml").write_text(MOONS)
        recipe = load_recipe(str(folder / "moons.yaml"), [f"run.dir={folder}", *words])
        run = create_run(recipe, argv=[], directory=folder / "run")
        return run, train(recipe, run)

    return run_it


@pytest.fixture
def copy_run(shared_run: Callable[..., tuple[Run, TrainResult]], tmp_path: Path) -> Callable[..., Run]:
    """Copy a shared run, to change it: `copy_run("train.epochs=2")`."""
    from flowgmm_cli.runs import Run

    def copy(*words: str) -> Run:
        return Run(Path(shutil.copytree(shared_run(*words)[0].path, tmp_path / "copy", dirs_exist_ok=True)))

    return copy


@pytest.fixture
def start_python(tmp_path: Path) -> Callable[..., ForkedProcess]:
    """Start a process that carries out code: `start_python(MAIN, "train", "digits")`."""
    return partial(ForkedProcess, folder=tmp_path)


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

    from flowgmm_cli.metrics_log import read_metrics

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

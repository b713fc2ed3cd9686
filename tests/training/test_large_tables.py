"""Training on a table larger than memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import MAIN, ForkedProcess

from flowgmm_cli.api import DataContext
from flowgmm_cli.data import block_shuffle, out_of_core
from flowgmm_cli.devices import create_engine
from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.inference.evaluate_run import evaluate_run
from flowgmm_cli.recipe.load import load_recipe
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run, create_run
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.dataset import Pool, Sampler
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.fit_job import TrainContext
from flowgmm_cli.training.pipeline import train
from flowgmm_cli.training.prepare import prepare

RECIPE = """\
version: 1
name: large
data:
  use: csv
  path: {path}
  label: kind
  labels: {{count: 40}}
  memory: 0
flow: {{use: realnvp, couplings: 2, hidden: 8, depth: 1}}
prior: {{use: gmm, means: labelled}}
train: {{epochs: 2, batch_size: 64, labelled_batch_size: 16, lr: 1e-2, precision: fp32}}
calibration: {{folds: 2, epochs: 0.2}}
run: {{device: cpu, log_every: 1}}
"""
Make = Callable[..., Recipe]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "rows").mkdir()
    for number in range(3):
        kind = rng.integers(0, 2, 1000)
        x = rng.standard_normal((1000, 3)) + 3 * kind[:, None]
        names = pa.array(np.array(["ash", "yew"])[kind], mask=rng.random(1000) > 0.3)
        table = pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "kind": names})
        pq.write_table(table, tmp_path / "rows" / f"{number}.parquet", row_group_size=300)
    return tmp_path / "rows"


@pytest.fixture
def make(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Recipes of the folder, with buffers of some batches; afterwards no thread is left."""
    monkeypatch.setattr(block_shuffle, "MAX_BUFFER_ROWS", 700)
    monkeypatch.setenv("FLOWGMM_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(path=folder), encoding="utf-8")
    yield lambda *words: load_recipe(str(file), words)
    assert not [item for item in threading.enumerate() if item.name.startswith("rows")]


def new_run(made: Recipe, folder: Path) -> Run:
    return create_run(made, argv=[], directory=folder)


def test_a_large_table_is_trained_evaluated_and_described(make: Make, tmp_path: Path) -> None:
    run = new_run(made := make(), tmp_path / "run")
    notes: list[str] = []
    result = train(made, run)
    assert result.test is not None
    assert result.test.classification.accuracy > 0.95
    rows = run.info()["rows"]
    assert rows["labelled"] == 40
    assert rows["train"] == 3000 - rows["test"] - rows["val"]
    assert result.first.epochs == 2
    lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    assert max(line["step"] for line in lines) == 2 * ((rows["train"] // 48 * 48) // 64)
    again = evaluate_run(run, split="test", context=DataContext(), warn=notes.append)
    assert again.classification.accuracy == result.test.classification.accuracy
    assert notes == []


def test_only_some_rows_are_tensors(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgmm_cli.data.out_of_core.MAX_SAMPLE_ROWS", 200)
    data = prepare(make(), DataContext())
    assert data.train.store is not None
    assert 200 <= len(data.train) <= 240
    assert data.counts()["train"] == len(data.train.store) > 2000
    assert f"{len(data.train.store):,} training rows, 40 labelled" in data.describe()[0]


@pytest.mark.parametrize("objective", ["{use: hybrid}", "{use: joint, pool: unlabelled}"])
def test_interrupted_within_a_buffer_it_ends_as_if_it_had_not_been(
    make: Make,
    tmp_path: Path,
    same_outcome: Callable[[Run, Run], None],
    objective: str,
    interrupt_after: Callable[[int], Interrupt],
) -> None:
    made = make(f"objective={objective}", "calibration.method=none")
    straight = new_run(made, tmp_path / "straight")
    train(made, straight)
    halting = new_run(made, tmp_path / "halting")
    for steps in (7, 13, 33):
        with pytest.raises(InterruptedRunError):
            train(made, halting, interrupt=interrupt_after(steps))
        assert not [item for item in threading.enumerate() if item.name.startswith("rows")]
    train(made, halting)
    same_outcome(straight, halting)


def sampler(made: Recipe, *, pool: Pool = "all", group: Distributed | None = None) -> Sampler:
    data = prepare(made, DataContext())
    return Sampler(data.train, batch_size=64, labelled_batch_size=16, seed=0, pool=pool, group=group)


def test_every_process_draws_the_same_batches_in_whatever_order(make: Make) -> None:
    first, other = sampler(make()), sampler(make())
    steps = [0, 1, 2, first.steps_per_epoch - 1, first.steps_per_epoch, first.steps_per_epoch + 9]
    batches = {step: first.batch(step) for step in steps}
    for step in reversed(steps):
        (labelled, unlabelled), again = batches[step], other.batch(step)
        assert torch.equal(again[0].labels, labelled.labels)
        assert torch.equal(again[1].x, unlabelled.x)
        assert unlabelled.x.shape == (64, 3)
    first.close()
    other.close()


def test_a_step_has_the_same_rows_in_another_number_of_processes(make: Make) -> None:
    alone, *pair = (sampler(make(), group=Distributed(rank, size)) for rank, size in ((0, 1), (0, 2), (1, 2)))
    for step in (0, 5, alone.steps_per_epoch - 1, alone.steps_per_epoch + 3):
        whole = alone.batch(step)
        parts = [item.batch(step) for item in pair]
        for index in range(2):
            together = torch.cat([part[index].x for part in parts])
            assert sorted(together.tolist()) == sorted(whole[index].x.tolist())
    for item in (alone, *pair):
        item.close()


def test_rows_with_a_visible_label_are_drawn_if_the_pool_has_them(make: Make) -> None:
    every, others = sampler(make()), sampler(make(), pool="unlabelled")
    assert len(every._shuffle) - len(others._shuffle) in range(-8, 96)
    labelled = every.rows.x[every.labelled_rows]
    for drawn, expected in ((every, True), (others, False)):
        x = torch.cat([drawn.batch(step)[1].x for step in range(drawn.steps_per_epoch)])
        result = (x[:, None] == labelled[None]).all(2).any(0)
        assert result.float().mean() > 0.9 if expected else not result.any()
        drawn.close()


@pytest.mark.slow
def test_two_processes_train_the_model_of_a_single_process_and_new_rows_are_predicted(
    folder: Path, tmp_path: Path, start_python: Callable[..., ForkedProcess]
) -> None:
    def command(*words: str) -> None:
        process = start_python(MAIN, *words)
        _, err = process.communicate()
        assert process.returncode == 0, err

    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.format(path=folder), encoding="utf-8")
    losses = []
    for count in (1, 2):
        run = tmp_path / f"run-{count}"
        words = ["--processes", str(count), "calibration.method=none", "train.max_steps=30", "--quiet"]
        words += ["data.views.strong=[]"]  # each process has random numbers of its own
        command("train", str(file), "--run-dir", str(run), *words)
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([line["loss"] for line in map(json.loads, lines) if line["split"] == "train"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    answer = tmp_path / "answer.csv"
    command("predict", str(run), "--data", str(folder / "0.parquet"), "--save", str(answer))
    assert len(answer.read_text(encoding="utf-8").splitlines()) == 1001


def test_an_objective_knows_how_many_rows_there_are(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_core, "MAX_SAMPLE_ROWS", 100)
    recipe = make("objective={use: joint}")
    data = prepare(recipe, DataContext())
    assert data.train.total > 2 * len(data.train)
    engine = create_engine(device="cpu", precision="fp32", features=data.preprocessor.dim)
    step = TrainContext(recipe, data, engine, Callbacks(), Interrupt()).create_step(data.train.labels)
    assert step.objective.labelled == pytest.approx(40 / data.train.total)

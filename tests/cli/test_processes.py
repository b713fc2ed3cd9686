"""`flowgmm train --processes N` and `torchrun`: real processes, of which some are really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.files import read_tensors
from flowgmm_cli.runs import Run, read_metrics

# each process has random numbers of its own, so that only losses without any agree with those of one process
NO_NOISE = ("data.views.strong=[]", "data.views.weak=[]")
ENDLESS = ("train.epochs=4000", "checkpoint.every_steps=5", "calibration.method=none")


@pytest.fixture
def command(moons_file: Path) -> Callable[..., list[str]]:
    """The words that train the tiny recipe: `command("here", "train.epochs=2")`."""

    def words(run: Path, *more: str) -> list[str]:
        start = [sys.executable, "-m", "flowgmm_cli", "train", str(moons_file), "--run-dir", str(run)]
        return [*start, *more]

    return words


def finish(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)


def resume(run: Path, *more: str) -> None:
    words = [sys.executable, "-m", "flowgmm_cli", "train", "--resume", str(run), *more]
    done = finish(words)
    assert done.returncode == 0, done.stderr


def state(run: Path) -> dict[str, Any]:
    return read_tensors(run / "checkpoints" / "last.safetensors", "checkpoint")[0]


def assert_same_outcome(one: Path, other: Path) -> None:
    """Weights, teacher and optimiser agree up to the order of sums, and so does all that is said."""
    first, second = state(one), state(other)
    assert first.keys() == second.keys()
    apart = {name: float((first[name].double() - second[name].double()).abs().max()) for name in first}
    assert max(apart.values()) < 1e-4, apart
    a, b = Run(one).info(), Run(other).info()
    assert (a["status"], a["steps"], a["epochs"]) == (b["status"], b["steps"], b["epochs"])
    for name in ("accuracy", "nll", "ece"):
        assert a["test"][name] == pytest.approx(b["test"][name], abs=1e-4)
    assert a["calibration"]["temperature"] == pytest.approx(b["calibration"]["temperature"], rel=1e-2)
    lines = [
        [(line["step"], line["split"]) for line in read_metrics(Run(run).metrics)] for run in (one, other)
    ]
    assert lines[0] == lines[1]
    assert len(lines[0]) == len(set(lines[0]))


def processes_of(run: Path) -> dict[int, int]:
    """Process ids of a run, by rank."""
    pids = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            environ = (folder / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        rank = [word.removeprefix("RANK=") for word in environ if word.startswith("RANK=")]
        if str(run) in words and "--resume" in words and rank:
            pids[int(rank[0])] = int(folder.name)
    return pids


def start_and_wait(words: list[str], run: Path) -> subprocess.Popen[str]:
    """Start a training and wait until it has saved its state."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = time.monotonic() + 120
    while not (run / "checkpoints" / "last.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)
    return process


@pytest.mark.slow
def test_two_processes_train_the_model_of_a_single_process(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    words = [
        *NO_NOISE,
        "prior.class_prior=estimated",
        "prior.means=latent",
        "prior.warm_up_epochs=1",
        "--json",
    ]
    results = {}
    for count in (1, 2):
        done = finish(command(tmp_path / str(count), *words, "--processes", str(count)))
        assert done.returncode == 0, done.stderr
        assert ("2 processes" in done.stderr) == (count == 2)
        assert done.stderr.count("run     ") == 1
        results[count] = json.loads(done.stdout)
    assert results[2]["best"]["metric"] == results[1]["best"]["metric"]
    assert_same_outcome(tmp_path / "1", tmp_path / "2")
    assert Run(tmp_path / "2").info()["argv"][-2:] == ["--processes", "2"]
    assert Run(tmp_path / "2").info()["processes"] == 2


@pytest.mark.slow
def test_sharded_weights_train_the_same_model(command: Callable[..., list[str]], tmp_path: Path) -> None:
    words = (
        *NO_NOISE,
        "flow.actnorm=true",
        "prior.learn_means=true",
        "prior.means=latent",
        "prior.warm_up_epochs=1",
    )
    done = finish(command(tmp_path / "1", *words, "train.fsdp=true"))
    assert done.returncode == 0, done.stderr
    assert "there is one process" in done.stderr
    done = finish(command(tmp_path / "2", *words, "train.fsdp=true", "--processes", "2"))
    assert done.returncode == 0, done.stderr
    assert "weights divided" in done.stderr
    assert_same_outcome(tmp_path / "1", tmp_path / "2")
    for name in ("model.safetensors", "checkpoints/best.safetensors"):
        first, other = (read_tensors(tmp_path / run / name, "model")[0] for run in "12")
        assert {key: value.shape for key, value in first.items()} == {
            key: value.shape for key, value in other.items()
        }


@pytest.mark.slow
def test_torchrun_trains_the_same_model(command: Callable[..., list[str]], tmp_path: Path) -> None:
    assert finish(command(tmp_path / "one", *NO_NOISE, "calibration.method=none")).returncode == 0
    python, *rest = command(tmp_path / "two", *NO_NOISE, "calibration.method=none")
    together = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *rest]
    done = finish(together)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy") == 2  # the table has two such lines; one process writes it
    assert_same_outcome(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize(("rank", "more"), [(0, ()), (1, ()), (1, ("train.fsdp=true",))])
def test_a_killed_process_ends_the_run_which_can_be_resumed(
    command: Callable[..., list[str]], tmp_path: Path, rank: int, more: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    process = start_and_wait(command(run, *ENDLESS, *more, "--processes", "2"), run)
    running = processes_of(run)
    assert sorted(running) == [0, 1]
    killed = time.monotonic()
    os.kill(running[rank], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - killed < 30
    assert process.returncode == 1
    assert f"error: process {rank} of 2 was ended by SIGKILL" in err
    assert f"hint: flowgmm train --resume {run} --processes 2" in err
    assert "Traceback" not in err
    assert not processes_of(run)
    step = int(state(run)["optimiser.0.step"])
    assert step >= 5
    if more:  # the main process has only its share
        assert step % 5 == 0
        assert "earlier checkpoints are kept" in err
    elif rank == 1:  # the main process has saved its state
        saved = f"the state after step {step} is kept" in err
        # or it was noticed while an epoch was measured, between a step and the state after it
        assert saved or (step % 5 == 0 and "earlier checkpoints are kept" in err)
    recipe = run / "resolved.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 4000", f"epochs: {step // 3 + 2}"))
    resume(run, "--processes", "2")
    assert Run(run).info()["steps"] == 3 * (step // 3 + 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("counts", "more"),
    [((1, 2), ()), ((2, 1), ()), ((1, 2), ("train.fsdp=true",)), ((2, 1), ("train.fsdp=true",))],
)
def test_a_run_resumes_with_another_number_of_processes(
    command: Callable[..., list[str]], tmp_path: Path, counts: tuple[int, int], more: tuple[str, ...]
) -> None:
    words = (
        *more,
        *NO_NOISE,
        "train.epochs=40",
        "checkpoint.every_steps=5",
        "calibration.method=none",
        "train.lr=1e-3",
    )
    assert finish(command(tmp_path / "uninterrupted", *words)).returncode == 0
    run = tmp_path / "resumed"
    process = start_and_wait(command(run, *words, "--processes", str(counts[0])), run)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("error: ") == 1
    assert "stopped by you after step" in err
    assert Run(run).info()["status"] == "interrupted"
    assert int(state(run)["optimiser.0.step"]) < 120
    resume(run, "--processes", str(counts[1]))
    assert_same_outcome(tmp_path / "uninterrupted", run)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", ["false", "true"])
def test_an_error_is_printed_once_and_keeps_its_exit_code(
    command: Callable[..., list[str]], tmp_path: Path, fsdp: str
) -> None:
    run = tmp_path / "run"
    words = ("train.lr=1e30", "train.clip_norm=null", f"train.fsdp={fsdp}")
    done = finish(command(run, *words, "--processes", "2"))
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert "the loss is not finite at step" in done.stderr
    missing = tmp_path / "missing"
    table = tmp_path / "table.yaml"
    table.write_text(f"version: 1\ndata: {{use: csv, path: {tmp_path / 'no.csv'}, label: y}}\n")
    words = [sys.executable, "-m", "flowgmm_cli", "train", str(table), "--run-dir", str(missing)]
    done = finish([*words, "--processes", "2"])
    assert done.returncode == 5
    assert done.stderr.count("error: ") == 1
    assert not missing.exists()


def test_a_mistake_in_the_recipe_is_reported_before_processes_start(flowgmm: Any, moons_file: Path) -> None:
    outcome = flowgmm("train", str(moons_file), "train.epchs=3", "--processes", "2", code=3)
    assert "epchs" in outcome.err
    assert "loading torch" not in outcome.err

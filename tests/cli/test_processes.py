"""`flowgmm train --processes N` and `torchrun`: real processes, of which some are really killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import MAIN, ForkedProcess
from own_files import Outcome

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.files import read_tensors
from flowgmm_cli.metrics_log import read_metrics
from flowgmm_cli.runs import Run
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.pipeline import train

Train = Callable[..., Any]
Command = Callable[..., Outcome]

# each process has random numbers of its own, so that only losses without any agree with those of one process
NO_NOISE = ("data.views.strong=[]", "data.views.weak=[]")
TORCHRUN = "from torch.distributed.run import main; main()"


@pytest.fixture
def words(moons_file: Path) -> Callable[..., list[str]]:
    """The words that train the tiny recipe: `words("here", "train.epochs=2")`."""
    return lambda run, *more: ["train", str(moons_file), "--run-dir", str(run), *more]


@pytest.fixture
def command(start_python: Callable[..., ForkedProcess]) -> Callable[..., Outcome]:
    """Carry out words of `flowgmm`, or of other code, in a process: `command(["eval"], code=2)`."""

    def carry_out(words: list[str], code: int = 0, main: str = MAIN) -> Outcome:
        process = start_python(main, *words)
        out, err = process.communicate()
        assert process.returncode == code, err
        return Outcome(code, out, err)

    return carry_out


def train_alone(run: Run, steps: int | None = None) -> None:
    """Resume a run in this process, to its end or for some steps."""
    interrupt, first = Interrupt(), state(run)["optimiser.0.step"]

    def progress(done: int, total: int, title: str, detail: str) -> None:
        interrupt._requested = steps is not None and done >= first + steps

    try:
        train(run.recipe(), run, callbacks=Callbacks(progress=progress), interrupt=interrupt)
    except InterruptedRunError:
        assert steps is not None


def state(run: Run) -> dict[str, Any]:
    return read_tensors(run.checkpoints / "last.safetensors", "checkpoint")[0]


def assert_same_outcome(one: Run, other: Run) -> None:
    """Weights, teacher and optimiser agree up to the order of sums, and so do files and figures."""
    for name in ("model.safetensors", "checkpoints/best.safetensors", "checkpoints/last.safetensors"):
        first, second = (read_tensors(run.path / name, "file")[0] for run in (one, other))
        assert {key: value.shape for key, value in first.items()} == {
            key: value.shape for key, value in second.items()
        }
        apart = {key: float((first[key].double() - second[key].double()).abs().max()) for key in first}
        assert max(apart.values()) < 1e-4, apart
    a, b = one.info(), other.info()
    assert (a["status"], a["steps"], a["epochs"]) == (b["status"], b["steps"], b["epochs"])
    assert a["best"]["metric"] == b["best"]["metric"]
    for name in ("accuracy", "nll", "ece"):
        assert a["test"][name] == pytest.approx(b["test"][name], abs=1e-4)
    assert a["calibration"]["temperature"] == pytest.approx(b["calibration"]["temperature"], rel=1e-2)
    lines = [[(line["step"], line["split"]) for line in read_metrics(run.metrics)] for run in (one, other)]
    assert lines[0] == lines[1]
    assert len(lines[0]) == len(set(lines[0]))


def processes_of(run: Run) -> dict[int, int]:
    """Process ids of a run, by rank."""
    pids = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            environ = (folder / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue
        rank = [word.removeprefix("RANK=") for word in environ if word.startswith("RANK=")]
        if str(run.path) in words and "--resume" in words and rank:
            pids[int(rank[0])] = int(folder.name)
    return pids


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [("prior.class_prior=estimated",), ("train.fsdp=true", "flow.actnorm=true", "prior.learn_means=true")],
    ids=["full weights", "divided weights"],
)
def test_two_processes_train_the_model_of_a_single_process(
    words: Callable[..., list[str]], command: Command, train_run: Train, tmp_path: Path, more: tuple[str, ...]
) -> None:
    more = (*NO_NOISE, "prior.means=latent", "prior.warm_up_epochs=1", *more)
    notes: list[str] = []
    alone, _ = train_run("alone", *more, callbacks=Callbacks(note=notes.append))
    both = Run(tmp_path / "both")
    done = command(words(both.path, *more, "--json", "--processes", "2"))
    assert_same_outcome(alone, both)
    assert done.json["best"]["metric"] == both.info()["best"]["metric"]
    assert "2 processes" in done.err
    assert done.err.count("run     ") == 1
    assert both.info()["argv"][-2:] == ["--processes", "2"]
    assert both.info()["processes"] == 2
    sharded = "train.fsdp=true" in more
    assert ("weights divided" in done.err) == sharded
    assert any("there is one process" in note for note in notes) == sharded


@pytest.mark.slow
def test_the_main_process_ends_a_search_with_the_verdict(
    words: Callable[..., list[str]], command: Command, tmp_path: Path
) -> None:
    search = "search={keep: 1, folds: 2, candidates: {plain: {}}}"
    done = command(words(tmp_path / "run", search, "--json", "--processes", "2"))
    assert done.json["verdict"]["text"]
    assert (tmp_path / "run" / "MODEL_CARD.md").is_file()


@pytest.mark.slow
def test_two_processes_go_on_from_a_run(
    words: Callable[..., list[str]], command: Command, train_run: Train, tmp_path: Path
) -> None:
    start, _ = train_run("start")
    more = ("data.labels.count=40", "--from", str(start.path), "--json", "--processes", "2")
    done = command(words(tmp_path / "both", *more))
    assert done.json["status"] == "done"
    assert f"from    {start.path} (25% of 4 epochs)" in done.err
    assert Run(tmp_path / "both").info()["from"]["run"] == str(start.path)


@pytest.mark.slow
def test_torchrun_trains_the_same_model(
    words: Callable[..., list[str]], command: Command, train_run: Train, tmp_path: Path
) -> None:
    more = (*NO_NOISE, "calibration.method=none")
    alone, _ = train_run("alone", *more)
    launcher = ["--standalone", "--nproc-per-node", "2", "-m", "flowgmm_cli"]
    done = command([*launcher, *words(tmp_path / "both", *more)], main=TORCHRUN)
    assert done.out.count("accuracy") == 2  # the table has two such lines; one process writes it
    assert_same_outcome(alone, Run(tmp_path / "both"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize(("fsdp", "ranks"), [("false", (0, 1)), ("true", (1,))])
def test_a_run_of_which_processes_are_killed_and_interrupted_resumes_with_any_number(
    words: Callable[..., list[str]],
    start_python: Callable[..., ForkedProcess],
    train_run: Train,
    tmp_path: Path,
    fsdp: str,
    ranks: tuple[int, ...],
) -> None:
    def start(words: list[str]) -> ForkedProcess:
        """Start or resume a training and wait until it has saved its state."""
        file = run.checkpoints / "last.safetensors"
        before = file.stat().st_mtime_ns if file.exists() else 0
        process = start_python(MAIN, *words)
        limit = time.monotonic() + 120
        while not file.exists() or file.stat().st_mtime_ns == before:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < limit
            time.sleep(0.02)
        return process

    more = (*NO_NOISE, "train.epochs=100", "checkpoint.every_steps=5", "train.lr=1e-4")
    more = (*more, "calibration.method=none", f"train.fsdp={fsdp}")
    run = Run(tmp_path / "run")
    line = words(run.path, *more, "--processes", "2")
    resume = ["train", "--resume", str(run.path), "--processes", "2"]
    for rank in ranks:
        process = start(line)
        running = processes_of(run)
        assert sorted(running) == [0, 1]
        os.kill(running[rank], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert f"error: process {rank} of 2 was ended by SIGKILL" in err
        assert f"hint: flowgmm train --resume {run.path} --processes 2" in err
        assert "Traceback" not in err
        assert not processes_of(run)
        step = int(state(run)["optimiser.0.step"])
        if fsdp == "true":  # the main process has only its share
            assert step % 5 == 0
            assert "earlier checkpoints are kept" in err
        elif rank == 1:  # the main process has saved its state
            saved = f"the state after step {step} is kept" in err
            # or it was noticed while an epoch was measured, between a step and the state after it
            assert saved or (step % 5 == 0 and "earlier checkpoints are kept" in err)
        train_alone(run, steps=7)
        assert run.info()["status"] == "interrupted"
        assert int(state(run)["optimiser.0.step"]) >= step + 7
        line = resume
    process = start(line)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("error: ") == 1
    assert "stopped by you after step" in err
    assert run.info()["status"] == "interrupted"
    assert int(state(run)["optimiser.0.step"]) < 300
    train_alone(run)
    assert_same_outcome(train_run("whole", *more)[0], run)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", ["false", "true"])
def test_a_loss_that_is_not_finite_is_reported_once(
    words: Callable[..., list[str]], command: Command, tmp_path: Path, fsdp: str
) -> None:
    more = ("train.lr=1e30", "train.clip_norm=null", f"train.fsdp={fsdp}", "--processes", "2")
    err = command(words(tmp_path / "run", *more), code=1).err
    assert err.count("error: ") == 1
    assert "the loss is not finite at step" in err


@pytest.mark.slow
def test_missing_data_are_reported_once(command: Command, tmp_path: Path) -> None:
    more = [f"data.path={tmp_path / 'no.csv'}", "data.label=y", "--run-dir", str(tmp_path / "run")]
    err = command(["train", "csv", *more, "--processes", "2"], code=5).err
    assert err.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_a_mistake_in_the_recipe_is_reported_before_processes_start(flowgmm: Any, moons_file: Path) -> None:
    outcome = flowgmm("train", str(moons_file), "train.epchs=3", "--processes", "2", code=3)
    assert "epchs" in outcome.err
    assert "loading torch" not in outcome.err

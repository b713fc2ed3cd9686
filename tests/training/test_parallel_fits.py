"""Trainings side by side: the same as one after the other, and they end together."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from flowgmm_cli.errors import InterruptedRunError, RunFailedError
from flowgmm_cli.training import fit_job
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import FitJob, PreparedFit
from flowgmm_cli.training.pipeline import train

THREE = ("ensemble=3", "calibration.folds=2")


@pytest.fixture(autouse=True)
def four_processors() -> Any:
    """As on a machine with four, whatever this one has."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Thread and number of its processors of each training, in the order in which they begin."""
    seen: list[tuple[str, int]] = []
    run_to_end = PreparedFit.run_to_end

    def spy(self: PreparedFit) -> Any:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return run_to_end(self)

    monkeypatch.setattr(PreparedFit, "run_to_end", spy)
    return seen


def test_trainings_side_by_side_end_as_those_one_after_the_other(
    train_run: Any, same_outcome: Any, watched: list[tuple[str, int]]
) -> None:
    shared = torch.get_rng_state()
    alone, first = train_run("alone", "run.jobs=1", *THREE)
    assert watched == [("MainThread", 4)] * 5
    watched.clear()
    beside, other = train_run("beside", "run.jobs=2", *THREE)
    names = [name for name, _ in watched]
    # members 1 and 2 with two of the four processors each, member 3 with all of them, both folds
    assert [count for _, count in watched] == [2, 2, 4, 2, 2]
    assert names[2] == "MainThread"
    assert len(set(names[:3])) == 3
    assert "MainThread" not in names[3:]
    same_outcome(alone, beside)
    for part, twin in zip(first.trained.model.parts, other.trained.model.parts, strict=True):
        for name, value in part.state_dict().items():
            assert torch.equal(value, twin.state_dict()[name]), name
    assert first.calibration == other.calibration
    assert torch.equal(torch.get_rng_state(), shared)
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [4, 4]  # threads that come later have all processors again


def test_several_trainings_have_one_progress(train_run: Any) -> None:
    reports: dict[str, list[tuple[int, int, str]]] = {}

    def progress(done: int, total: int, what: str, detail: str) -> None:
        reports.setdefault(what, []).append((done, total, detail))

    train_run("run", "run.jobs=2", *THREE, callbacks=Callbacks(progress=progress))
    assert list(reports) == [
        "train, members 1 and 2 of 3",
        "train, member 3 of 3",
        "calibrate, folds 1 and 2 of 2",
    ]
    both = reports["train, members 1 and 2 of 3"]
    assert [done for done, _, _ in both] == sorted(done for done, _, _ in both)
    assert {total for _, total, _ in both} == {both[-1][0]}
    assert both[-1][0] == 2 * reports["train, member 3 of 3"][-1][0]
    assert "loss" in both[-1][2]


def test_an_interrupted_run_saves_all_parallel_trainings_and_can_be_resumed(
    shared_run: Any, new_run: Any, same_outcome: Any
) -> None:
    words = ("run.jobs=2", *THREE)
    whole, _ = shared_run(*words)
    broken, interrupt = new_run("broken", *words), Interrupt()

    def progress(done: int, total: int, what: str, detail: str) -> None:
        interrupt._requested = "member" in what and done >= 6

    with pytest.raises(InterruptedRunError, match="the state is saved"):
        train(broken.recipe(), broken, callbacks=Callbacks(progress=progress), interrupt=interrupt)
    assert broken.info()["status"] == "interrupted"
    for member in (0, 1):
        assert (broken.member(member).checkpoints / "last.safetensors").is_file()
    assert not (broken.member(2).checkpoints / "last.safetensors").exists()
    train(broken.recipe(), broken)
    same_outcome(whole, broken)


def test_one_that_fails_ends_the_others_which_are_saved(
    new_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run("run", "run.jobs=2", "ensemble=2", "train.epochs=500")
    prepared: list[PreparedFit] = []
    prepare = FitJob.prepare

    def spoil(self: FitJob, *args: Any) -> PreparedFit:
        fit = prepare(self, *args)
        prepared.append(fit)
        if len(prepared) == 2:
            fit.step.model.mixture.means.data.fill_(float("nan"))
        return fit

    monkeypatch.setattr(FitJob, "prepare", spoil)
    with pytest.raises(RunFailedError, match="not finite"):
        train(run.recipe(), run)
    assert run.info()["status"] == "failed"
    assert (run.member(0).checkpoints / "last.safetensors").is_file()
    assert not (run.member(1).checkpoints / "last.safetensors").exists()
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(
    ("words", "at_once"),
    [
        (["run.jobs=3"], 3),
        (["run.jobs=9"], 5),
        (["run.jobs=1"], 1),
        ([], 1),  # a step of the tiny recipe is mostly Python
        (["flow.hidden=1024", "flow.depth=2"], 4),
        (["run.jobs=3", "flow.dropout=0.2"], 1),  # draws from the generator that threads share
        (["run.jobs=3", "train.compile=true"], 1),
    ],
)
def test_number_of_parallel_trainings(
    new_run: Any, monkeypatch: pytest.MonkeyPatch, words: list[str], at_once: int
) -> None:
    result: list[int] = []

    class EnoughError(Exception):
        pass

    def spy(first: PreparedFit, jobs: int) -> int:
        result.append(jobs_at_once(first, 5))
        raise EnoughError

    jobs_at_once = fit_job._jobs_at_once
    monkeypatch.setattr(fit_job, "_jobs_at_once", spy)
    run = new_run("run", "ensemble=2", *words)
    before = torch.get_rng_state()
    with pytest.raises(EnoughError):
        train(run.recipe(), run)
    assert result == [at_once]
    assert torch.equal(torch.get_rng_state(), before)

"""Several trainings that do not depend on each other: members of an ensemble, folds of the labelled rows.

On a CPU they go on side by side, in a thread each. A step of a narrow flow does not fill several processors:
half of it are small operations, between which all but one processor wait. Two steps on one processor each do.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.recipe.parse import vary
from flowgmm_cli.runs import Run
from flowgmm_cli.training.fitting import Fitting, Talk, Training
from flowgmm_cli.training.folds import shorter
from flowgmm_cli.training.interrupt import Interrupt
from flowgmm_cli.training.optim import make_teacher
from flowgmm_cli.training.settings import LoopResult
from flowgmm_cli.training.step import StepInput

_WORTH_A_THREAD = 5e8  # floating-point operations of a step; a smaller one is mostly Python


@dataclass(frozen=True)
class Job:
    """A training to come.

    Attributes:
        labels: visible labels of the training rows `(N,)`, -1 where there is none.
        changes: settings that differ from the recipe's.
        run: keeps checkpoints and metrics, and is monitored; None for a training in passing.
        share: of the recipe's epochs.
    """

    labels: npt.NDArray[np.int64]
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    run: Run | None = None
    share: float = 1.0


def fit_all(fitting: Fitting, jobs: Sequence[Job], *, what: str, each: str) -> list[LoopResult]:
    """Carry out all jobs, as many at once as the machine and `run.jobs` allow.

    Args:
        fitting: recipe, rows and surroundings.
        jobs: the trainings.
        what: what they are for, such as `train`.
        each: what one of them is called, such as `member`; shown where there are several.

    Raises:
        InterruptedRunError: stopped; what is kept, is saved.
        FlowgmmError: what ended the first training that failed; the others are saved and stop.
    """
    first = _begin(fitting, jobs[0], _name(what, each, range(1), len(jobs)))
    at_once = _at_once(first, len(jobs))
    found: list[LoopResult] = []
    for start in range(0, len(jobs), at_once):
        places = range(start, min(start + at_once, len(jobs)))
        shown = _name(what, each, places, len(jobs))
        trainings = [_begin(fitting, jobs[place], shown) if place else first for place in places]
        found += _side_by_side(trainings, shown, fitting) if len(places) > 1 else [trainings[0].carry_out()]
    return found


def _begin(fitting: Fitting, job: Job, what: str) -> Training:
    recipe = vary(fitting.recipe, job.changes)
    if job.share < 1:
        recipe = recipe.model_copy(update={"train": shorter(recipe.train, job.share)})
    return dataclasses.replace(fitting, recipe=recipe).begin(job.labels, run=job.run, what=what)


def _name(what: str, each: str, places: Sequence[int], total: int) -> str:
    """Such as `train, member 1 of 3` and `train, members 1 and 2 of 3`."""
    first, last = places[0] + 1, places[-1] + 1
    if total == 1:
        return what
    if first == last:
        return f"{what}, {each} {first} of {total}"
    return f"{what}, {each}s {first} {'and' if last == first + 1 else 'to'} {last} of {total}"


def _at_once(training: Training, jobs: int) -> int:
    """How many of the jobs go on at once, of which this is the first."""
    fitting = training.fitting
    wanted, recipe = fitting.recipe.run.jobs, fitting.recipe
    if not fitting.processes.alone or fitting.engine.device.type != "cpu" or recipe.train.compile:
        return 1
    if not isinstance(fitting.data.train.x, torch.Tensor) or fitting.data.train.stream is not None:
        return 1  # what reads the rows that stay on the disk keeps the other processors busy
    if wanted == "auto":
        # the activations of a flow of images are most of what a run needs of memory
        narrow = not isinstance(training.step.model.flow, FlatFlow)
        wanted = torch.get_num_threads() if narrow and training.operations > _WORTH_A_THREAD else 1
    return 1 if wanted == 1 or _draws_by_itself(training) else min(jobs, wanted)


def _draws_by_itself(training: Training) -> bool:
    """Whether something draws from torch's global generator, which threads share; dropout does.

    The losses of a step, on a copy of the model, tell.
    """
    step, rows, train = training.step, training.rows, training.fitting.recipe.train
    student = copy.deepcopy(step.model).train()
    labelled, unlabelled = rows.labelled[: train.labelled_batch_size], rows.pool[: train.batch_size]
    batch = StepInput(
        labelled=rows.forms[labelled],
        labels=rows.labels[labelled],
        unlabelled=rows.forms[unlabelled],
        step=0,
        epoch=0.0,
    )
    before = torch.get_rng_state()
    try:
        with training.fitting.engine.autocast():
            step.losses(student, make_teacher(student), batch, torch.Generator())
        return not torch.equal(before, torch.get_rng_state())
    finally:
        torch.set_rng_state(before)


def _side_by_side(trainings: Sequence[Training], what: str, fitting: Fitting) -> list[LoopResult]:
    """Carry out trainings in a thread each, with a share of the processors each."""
    ended, progress = threading.Event(), _Progress(fitting.talk, what, len(trainings))
    every = torch.get_num_threads()
    threads = max(1, every // len(trainings))
    numbers = torch.get_rng_state()  # a step puts back the state it found, which may be that of another's

    def carry_out(index: int) -> LoopResult:
        torch.set_num_threads(threads)  # of this thread and those it starts
        training, tell = trainings[index], partial(progress, index)
        talk = dataclasses.replace(fitting.talk, progress=tell)
        surroundings = dataclasses.replace(
            training.fitting, interrupt=_Shared(fitting.interrupt, ended), talk=talk
        )
        result = dataclasses.replace(training, fitting=surroundings).carry_out()
        tell(result.progress.step, result.progress.step, what, "")
        return result

    try:
        with fitting.interrupt.deferred(), ThreadPoolExecutor(len(trainings)) as pool:
            working = [pool.submit(carry_out, index) for index in range(len(trainings))]
            try:
                wait(working, return_when=FIRST_EXCEPTION)
            finally:
                ended.set()
    finally:
        torch.set_rng_state(numbers)
        torch.set_num_threads(every)  # of threads that come later, too
    failures = [failure for one in working if (failure := one.exception())]
    if failures:  # those that only stopped because of another come last
        raise min(failures, key=lambda failure: isinstance(failure, InterruptedRunError))
    return [one.result() for one in working]


class _Shared(Interrupt):
    """Hears what the whole run hears, and that a training beside this one has failed."""

    def __init__(self, whole: Interrupt, ended: threading.Event) -> None:
        super().__init__()
        self._whole = whole
        self._ended = ended

    def requested(self) -> bool:
        """Whether to stop."""
        return self._ended.is_set() or self._whole.requested()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """The whole run's signals are, and for longer."""
        yield


class _Progress:
    """One progress of several trainings: the sum of their steps."""

    def __init__(self, talk: Talk, what: str, trainings: int) -> None:
        self._talk, self._what, self._trainings = talk, what, trainings
        self._lock = threading.Lock()
        self._steps: dict[int, tuple[int, int]] = {}
        self._detail = ""

    def __call__(self, index: int, done: int, total: int, what: str, detail: str) -> None:
        with self._lock:
            self._steps[index] = done, total
            if index == 0:
                self._detail = detail or self._detail
            finished, known = (sum(column) for column in zip(*self._steps.values(), strict=True))
            # one that says nothing yet will be about as long as the others
            total = round(known * self._trainings / len(self._steps))
            self._talk.progress(finished, total, self._what, self._detail)

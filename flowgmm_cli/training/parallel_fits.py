"""Trainings that do not depend on each other: members of an ensemble, folds of the labelled rows.

On a CPU they run side by side, in a thread each. A step of a narrow flow does not fill several processors:
half of it are small operations, during which all but one processor wait.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from functools import partial

import torch

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.fit_job import FitJob, PreparedFit, TrainContext
from flowgmm_cli.training.trainer import FitResult

_MIN_FLOPS = 5e8  # of a step that is worth a thread; a smaller one is mostly Python


def fit_all(context: TrainContext, jobs: Sequence[FitJob], *, title: str, unit: str) -> list[FitResult]:
    """Run all jobs, as many at once as the machine and `run.jobs` allow.

    `title` names their purpose, such as `train`, and `unit` one of several, such as `member`.

    Raises:
        InterruptedRunError: stopped by the user; trainings with a run are saved.
        FlowgmmError: the error of the first training that failed; the others are saved and stop.
    """
    first = jobs[0].prepare(context, _title(title, unit, range(1), len(jobs)))
    at_once = _jobs_at_once(first, len(jobs))
    results: list[FitResult] = []
    for start in range(0, len(jobs), at_once):
        numbers = range(start, min(start + at_once, len(jobs)))
        name = _title(title, unit, numbers, len(jobs))
        context.plan.start(len(numbers))
        fits = [jobs[number].prepare(context, name) if number else first for number in numbers]
        results += fit_in_threads(fits, context, name) if len(fits) > 1 else [fits[0].run_to_end()]
    return results


def _title(title: str, unit: str, numbers: Sequence[int], total: int) -> str:
    """Format `train, member 1 of 3` or `train, members 1 and 2 of 3`."""
    first, last = numbers[0] + 1, numbers[-1] + 1
    if total == 1:
        return title
    if first == last:
        return f"{title}, {unit} {first} of {total}"
    return f"{title}, {unit}s {first} {'and' if last == first + 1 else 'to'} {last} of {total}"


def _jobs_at_once(first: PreparedFit, jobs: int) -> int:
    """Number of jobs that run at once, given the first of them."""
    context, recipe = first.context, first.context.recipe
    if context.group.world_size > 1 or context.engine.device.type != "cpu" or recipe.train.compile:
        return 1
    if context.data.train.store is not None:
        return 1  # reading rows from the disk keeps the other processors busy
    at_once = recipe.run.jobs
    if at_once == "auto":
        # the activations of a flow of images are most of the memory of a run
        is_narrow = not isinstance(first.step.model.flow, FlatFlow)
        at_once = torch.get_num_threads() if is_narrow and first.flops() > _MIN_FLOPS else 1
    # threads share the global generator
    return 1 if at_once == 1 or first.uses_global_rng() else min(jobs, at_once)


def fit_in_threads(fits: Sequence[PreparedFit], context: TrainContext, title: str) -> list[FitResult]:
    """Run each training in a thread of its own, with a share of the processors; `title` names them all."""
    stop, progress = threading.Event(), _SummedProgress(context.callbacks, title, len(fits))
    all_threads, rng_state = torch.get_num_threads(), torch.get_rng_state()

    def run(index: int) -> FitResult:
        torch.set_num_threads(max(1, all_threads // len(fits)))  # of this thread
        fit, report = fits[index], partial(progress, index)
        callbacks = replace(context.callbacks, progress=report)
        interrupt = Interrupt(lambda: stop.is_set() or context.interrupt.is_requested())
        own_context = replace(fit.context, interrupt=interrupt, callbacks=callbacks)
        result = replace(fit, context=own_context).run_to_end()
        report(result.progress.step, result.progress.step, fit.title, "")
        return result

    try:
        with context.interrupt.defer(), ThreadPoolExecutor(len(fits)) as pool:
            futures = [pool.submit(run, index) for index in range(len(fits))]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                stop.set()
    finally:
        torch.set_rng_state(rng_state)
        torch.set_num_threads(all_threads)  # of later threads, too
    errors = [error for future in futures if (error := future.exception())]
    if errors:  # trainings that stopped because of another's error come last
        raise min(errors, key=lambda error: isinstance(error, InterruptedRunError))
    return [future.result() for future in futures]


class _SummedProgress:
    """Progress of several trainings in one: the sum of their steps."""

    def __init__(self, callbacks: Callbacks, title: str, fits: int) -> None:
        self._callbacks, self._title, self._fits = callbacks, title, fits
        self._lock = threading.Lock()
        self._steps: dict[int, tuple[int, int]] = {}
        self._detail = ""

    def __call__(self, index: int, done: int, total: int, title: str, detail: str) -> None:
        with self._lock:
            self._steps[index] = done, total
            if index == 0:
                self._detail = detail or self._detail
            steps, known = (sum(column) for column in zip(*self._steps.values(), strict=True))
            # a training that has not reported yet is about as long as the others
            expected = round(known * self._fits / len(self._steps))
            self._callbacks.progress(steps, expected, self._title, self._detail)

"""Trainings of a model, each with a choice of visible labels: those of the run, of a member or of a fold.

On a CPU those that do not depend on each other run side by side, in a thread each. A step of a narrow flow
does not fill several processors: half of it are small operations, during which all but one processor wait.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.api import Component
from flowgmm_cli.baselines.guide import Guide, uses_guide
from flowgmm_cli.data.array_types import Bools
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine, allow_tf32, limit_threads
from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.formatting import format_number
from flowgmm_cli.mixture.unknown import UnknownKinds
from flowgmm_cli.mixture.unknown_head import UnknownHead, fit_head
from flowgmm_cli.recipe.schema import Recipe, TrainConfig
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.runs import Run
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.model_init import initialise_model
from flowgmm_cli.training.optim import create_ema_model
from flowgmm_cli.training.plan import TrainingPlan, count_epochs
from flowgmm_cli.training.prepare import PreparedData
from flowgmm_cli.training.start import SHARE, Start, raise_lr
from flowgmm_cli.training.step import TrainingStep, build_step
from flowgmm_cli.training.trainer import FitResult, Trainer
from flowgmm_cli.training.validation import Validator

_MIN_FLOPS = 5e8  # of a step that is worth a thread; a smaller one is mostly Python
_PROGRESS_METRICS = {  # names for people
    "loss": "loss",
    "val.accuracy": "accuracy",
    "monitor.agreement": "agreement",
    "monitor.bits_per_dim": "bits/dim",
}


@dataclass(frozen=True)
class TrainContext:
    """Everything that a training needs beside its labels.

    Each process of a `group` that trains together has a context of its own; the main process writes.
    """

    recipe: Recipe
    data: PreparedData
    engine: Engine
    callbacks: Callbacks
    interrupt: Interrupt
    group: Distributed = field(default_factory=Distributed)
    plan: TrainingPlan = field(default_factory=TrainingPlan)
    unknown: UnknownKinds | None = None  # rows of unknown kinds; None = nothing was found, or sought
    start: Start | None = None  # finished run that the training goes on from
    guide: Guide | None = None  # simple methods whose probabilities a loss uses, fitted when first used

    def create_step(self, labels: Tensor, member: int = 0) -> TrainingStep:
        """Initialise the model and build its losses, on the device.

        `labels` are visible labels of the training rows, int64 `(N,)`, -1 if unlabelled; `member` is the part
        of the run's model that a training with `start` goes on from.
        """
        recipe, data, x = self.recipe, self.data, self.data.train.x
        classes, seed, shape = data.classes, recipe.run.seed, data.preprocessor.shape
        start = None
        if self.start:
            start = self.start.part(member), self.start.match_classes(data.rows.class_names)
        sizes: dict[str, Any] = {"classes": classes, "shape": shape}
        model = initialise_model(recipe, x, labels, seed=seed, start=start, **sizes)
        labelled = int((labels >= 0).sum())
        sizes = {"features": x.shape[1], "labelled": labelled, "unlabelled": data.train.total - labelled}
        return build_step(recipe, model.to(self.engine.device), **sizes, preprocessor=data.preprocessor)

    def fit_head(self, labels: Tensor) -> UnknownHead | None:
        """Fit the head of a model trained with visible `labels` `(N,)`; None without unknown kinds."""
        if self.unknown is None:
            return None
        rng = generator(self.recipe.run.seed, "unknown", 1)
        head = fit_head(self.data.train.x, labels, self.unknown, classes=self.data.classes, generator=rng)
        return head.to(self.engine.device)

    def find_known_labels(self) -> Bools | None:
        """Return a mask of the labels that are never held out, known to a run before or uncertain."""
        known = self.start.trained.find_labelled(self.data.rows.train) if self.start else None
        uncertain = self.data.find_uncertain_labels()
        return uncertain if known is None else known if uncertain is None else known | uncertain

    def first_batch(self, rows: Tensors) -> tuple[Tensors, Tensors]:
        """First labelled rows and first rows of all, as many as in a step."""
        train = self.recipe.train
        labelled = (rows.labels >= 0).nonzero().flatten()[: train.labelled_batch_size]
        return rows[labelled], rows[: train.batch_size]

    def describe(self) -> Iterator[str]:
        """Describe rows, device and processes, and loss terms that stay below their full weight."""
        data, processes, fsdp = self.data, self.group.world_size, self.recipe.train.fsdp
        yield from (*data.rows.notes, *data.preprocessor.notes, *data.describe())
        divided = ", weights divided among them" if fsdp else ""
        many = f", {processes} processes{divided}" if processes > 1 else ""
        yield f"device  {self.engine.describe()}{many}"
        if fsdp and processes == 1:
            yield "fsdp    there is one process, which keeps all weights; `--processes N` divides them"
        if self.start:
            yield self.start.describe(data.rows.class_names, self.recipe.train.epochs)
            return  # with every term at its full weight
        epochs = count_epochs(self.recipe.train, data.train.total)
        for index, regulariser in enumerate(self.recipe.regularisers):
            ramp = getattr(regulariser.config, "ramp_epochs", 0.0)
            if ramp > epochs:
                yield (
                    f"ramp    {regulariser.use} grows over {ramp:g} epochs, and training has "
                    f"{format_number(epochs)}; regularisers.{index}.ramp_epochs sets how many"
                )


@dataclass(frozen=True)
class FitJob:
    """A training to run.

    Attributes:
        labels: visible labels of the training rows `(N,)`, -1 if unlabelled.
        changes: settings that differ from the recipe's.
        run: keeps checkpoints and metrics, and is validated; None for a training that keeps nothing.
        share: share of the recipe's epochs.
        member: part of the run's model that a training with `start` goes on from.
    """

    labels: npt.NDArray[np.int64]
    changes: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    share: float = 1.0
    member: int = 0

    def settings(self, context: TrainContext) -> Recipe:
        """Return the recipe of this training."""
        recipe = vary(context.recipe, self.changes) if self.changes else context.recipe
        train = shorten(recipe.train, self.share * (SHARE if context.start else 1.0))
        if context.start is None:
            return recipe.model_copy(update={"train": train})
        train = train.model_copy(update={"lr": raise_lr(train.lr)})
        regularisers = tuple(_drop_ramp(component) for component in recipe.regularisers)
        return recipe.model_copy(update={"regularisers": regularisers, "train": train})

    def epochs(self, context: TrainContext) -> float:
        """Number of epochs that this training is expected to take."""
        return count_epochs(self.settings(context).train, context.data.train.total)

    def prepare(self, context: TrainContext, title: str) -> PreparedFit:
        """Build the model, its losses and its rows; `title` names the training in its progress."""
        recipe, guide, data = self.settings(context), context.guide, context.data
        if guide and uses_guide(recipe):
            train, val = guide.attach(self.labels)
            data = replace(data, train=train, val=val)
        context = replace(context, recipe=recipe, data=data)
        labels = torch.from_numpy(self.labels)
        step, device = context.create_step(labels, self.member), context.engine.device
        return PreparedFit(context, step, replace(data.train, labels=labels).to(device), self.run, title)


@dataclass(frozen=True)
class PreparedFit:
    """A training that is ready to run, with its model and losses, and its rows on the device."""

    context: TrainContext
    step: TrainingStep
    rows: Tensors
    run: Run | None
    title: str

    def run_to_end(self) -> FitResult:
        """Train, from the last checkpoint of the run if it has one."""
        context, val, validator, detail = self.context, self.context.data.val, None, ""
        recipe, engine, group = context.recipe, context.engine, context.group
        if self.run and val is not None:
            pixels = context.data.preprocessor.pixels
            validator = Validator(
                self.step, val.to(engine.device), recipe, engine, pixels=pixels, group=group
            )

        def on_step(step: int, steps: int, values: Mapping[str, Any]) -> None:
            nonlocal detail
            parts = [f"{name} {values[key]:.3f}" for key, name in _PROGRESS_METRICS.items() if key in values]
            detail = "  ".join(parts) or detail
            context.callbacks.progress(step, steps, self.title, detail)

        with (
            limit_threads(engine, self.flops() / group.world_size),
            allow_tf32(engine, recipe.train.tf32),
            context.interrupt.defer(),
        ):
            trainer = Trainer(
                self.step,
                self.rows,
                recipe,
                engine,
                validator=validator,
                run=self.run,
                interrupt=context.interrupt,
                on_step=on_step,
                group=group,
            )
            return trainer.fit()

    def flops(self) -> float:
        """Floating-point operations of a step: forward, backward (twice that), and the teacher's forward."""
        train, data = self.context.recipe.train, self.context.data
        rows = min(train.batch_size, len(data.train)) + train.labelled_batch_size
        flow = self.step.model.flow
        if not isinstance(flow, FlatFlow):
            return 4 * 2.0 * rows * sum(int(parameter.numel()) for parameter in flow.parameters())
        from torch.utils.flop_counter import FlopCounterMode

        # a weight of a convolution is used for every pixel
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            flow(data.train.x[:1].to(self.context.engine.device))
        return 4.0 * rows * float(counter.get_total_flops())

    def uses_global_rng(self) -> bool:
        """Return True if a step draws from torch's global generator, as dropout does; takes one to see."""
        student, batch = copy.deepcopy(self.step.model).train(), self.context.first_batch(self.rows)
        state = torch.get_rng_state()
        try:
            with self.context.engine.autocast():
                self.step(create_ema_model(student), *batch, torch.Generator(), model=student)
            return not torch.equal(state, torch.get_rng_state())
        finally:
            torch.set_rng_state(state)


def _drop_ramp(component: Component) -> Component:
    """Return a regulariser that has its full weight from the first step on."""
    if "ramp_epochs" not in type(component.config).model_fields:
        return component
    config = component.config.model_copy(update={"ramp_epochs": 0.0})
    return component.model_copy(update={"config": config})


def shorten(train: TrainConfig, share: float) -> TrainConfig:
    """Settings of a training with a share of the epochs and steps, at least one."""
    epochs, steps = (limit and max(1, math.ceil(share * limit)) for limit in (train.epochs, train.max_steps))
    return train.model_copy(update={"epochs": epochs, "max_steps": steps})


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
        results += _fit_in_threads(fits, context, name) if len(fits) > 1 else [fits[0].run_to_end()]
    for job, result in zip(jobs, results, strict=True):
        result.model.head = context.fit_head(torch.from_numpy(job.labels))
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


def _fit_in_threads(fits: Sequence[PreparedFit], context: TrainContext, title: str) -> list[FitResult]:
    """Run each training in a thread of its own, with a share of the processors; `title` names them all."""
    stop, lock, shown = threading.Event(), threading.Lock(), ""
    steps: dict[int, tuple[int, int]] = {}  # done and expected, by training
    all_threads, rng_state = torch.get_num_threads(), torch.get_rng_state()

    def progress(index: int, done: int, total: int, _: str, detail: str) -> None:
        nonlocal shown
        with lock:
            steps[index] = done, total
            shown = detail if detail and index == 0 else shown
            all_done, all_steps = (sum(column) for column in zip(*steps.values(), strict=True))
            # a training that has not reported yet is about as long as the others
            expected = round(all_steps * len(fits) / len(steps))
            context.callbacks.progress(all_done, expected, title, shown)

    def run(index: int) -> FitResult:
        torch.set_num_threads(max(1, all_threads // len(fits)))  # of this thread
        fit, report = fits[index], partial(progress, index)
        callbacks = replace(context.callbacks, progress=report)
        interrupt = Interrupt(lambda: stop.is_set() or context.interrupt.is_requested())
        own_context = replace(fit.context, interrupt=interrupt, callbacks=callbacks)
        result = replace(fit, context=own_context).run_to_end()
        report(result.progress.step, result.progress.step, title, "")
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

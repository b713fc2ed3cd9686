"""One model trained with one choice of visible labels: that of the run, of a member or of a fold."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine, allow_tf32, limit_threads
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.formatting import format_number
from flowgmm_cli.mixture.unknown import UnknownKinds
from flowgmm_cli.recipe.schema import Recipe, TrainConfig
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.runs import Run
from flowgmm_cli.training.callbacks import Callbacks, Interrupt
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.model_init import initialise_model
from flowgmm_cli.training.optim import create_ema_model
from flowgmm_cli.training.plan import TrainingPlan, count_epochs
from flowgmm_cli.training.prepare import PreparedData
from flowgmm_cli.training.step import TrainingStep, build_step
from flowgmm_cli.training.trainer import FitResult, OnStep, Trainer
from flowgmm_cli.training.validation import Validator

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

    def add_examples(self, labels: Tensor) -> Tensor:
        """Label the examples of unknown kinds: `labels` `(N,)` with numbers that follow the classes."""
        if self.unknown is None:
            return labels
        return labels.index_copy(0, self.unknown.examples, self.data.classes + self.unknown.components)

    def create_step(self, labels: Tensor) -> TrainingStep:
        """Initialise the model and build its losses, on the device.

        `labels` are visible labels of the training rows, int64 `(N,)`, -1 if unlabelled.
        """
        recipe, data, x = self.recipe, self.data, self.data.train.x
        classes, seed, shape = data.classes, recipe.run.seed, data.preprocessor.shape
        unknown = self.unknown.count if self.unknown else 0
        model = initialise_model(recipe, x, labels, classes=classes, seed=seed, shape=shape, unknown=unknown)
        labelled = int((labels >= 0).sum())
        sizes = {"features": x.shape[1], "labelled": labelled, "unlabelled": data.train.total - labelled}
        return build_step(recipe, model.to(self.engine.device), **sizes, preprocessor=data.preprocessor)

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
    """

    labels: npt.NDArray[np.int64]
    changes: Mapping[str, Any] = field(default_factory=dict)
    run: Run | None = None
    share: float = 1.0

    def settings(self, recipe: Recipe) -> Recipe:
        """Return the recipe of this training."""
        recipe = vary(recipe, self.changes) if self.changes else recipe
        return recipe.model_copy(update={"train": shorten(recipe.train, self.share)})

    def epochs(self, context: TrainContext) -> float:
        """Number of epochs that this training is expected to take."""
        return count_epochs(self.settings(context.recipe).train, context.data.train.total)

    def prepare(self, context: TrainContext, title: str) -> PreparedFit:
        """Build the model, its losses and its rows; `title` names the training in its progress."""
        context = replace(context, recipe=self.settings(context.recipe))
        labels = context.add_examples(torch.from_numpy(self.labels))
        step, device = context.create_step(labels), context.engine.device
        rows = replace(context.data.train, labels=labels).to(device)
        return PreparedFit(context, step, rows, self.run, title)


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
        context, run, recipe = self.context, self.run, self.context.recipe
        with (
            limit_threads(context.engine, self.flops() / context.group.world_size),
            allow_tf32(context.engine, recipe.train.tf32),
            context.interrupt.defer(),
        ):
            trainer = Trainer(
                self.step,
                self.rows,
                recipe,
                context.engine,
                validator=self._validator() if run else None,
                run=run,
                interrupt=context.interrupt,
                on_step=self._progress(),
                group=context.group,
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

    def _validator(self) -> Validator | None:
        context, val = self.context, self.context.data.val
        if val is None:
            return None
        rows, pixels = val.to(context.engine.device), context.data.preprocessor.pixels
        return Validator(self.step, rows, context.recipe, context.engine, pixels=pixels, group=context.group)

    def _progress(self) -> OnStep:
        detail = ""

        def on_step(step: int, steps: int, values: Mapping[str, Any]) -> None:
            nonlocal detail
            parts = [f"{name} {values[key]:.3f}" for key, name in _PROGRESS_METRICS.items() if key in values]
            detail = "  ".join(parts) or detail
            self.context.callbacks.progress(step, steps, self.title, detail)

        return on_step


def shorten(train: TrainConfig, share: float) -> TrainConfig:
    """Settings of a training with a share of the epochs and steps, at least one."""
    epochs, steps = (limit and max(1, math.ceil(share * limit)) for limit in (train.epochs, train.max_steps))
    return train.model_copy(update={"epochs": epochs, "max_steps": steps})

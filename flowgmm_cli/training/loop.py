"""The training loop, read top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.errors import InterruptedRunError
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import CheckpointConfig, TrainConfig
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.checkpoint import BestModel, Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.engine import Engine
from flowgmm_cli.training.guard import Guard, explain
from flowgmm_cli.training.metrics_log import MetricsLog
from flowgmm_cli.training.monitor import Monitor, Reading
from flowgmm_cli.training.optim import (
    learning_rate,
    make_optimiser,
    make_teacher,
    set_learning_rate,
    update_teacher,
)
from flowgmm_cli.training.prior import estimate_class_prior
from flowgmm_cli.training.random_layers import seeded_layers
from flowgmm_cli.training.sampler import Sampler, TrainingRows
from flowgmm_cli.training.step import StepInput, TrainingStep
from flowgmm_cli.training.warm_up import set_latent_means, warm_up_steps


@dataclass(frozen=True)
class LoopSettings:
    """What a loop is told beside its rows.

    Attributes:
        train: optimiser, lengths, precision.
        checkpoint: how often the state is saved.
        seed: fixes order, views and noise.
        log_every: steps between two lines of metrics.
        estimate_prior: re-estimate the class weights after each epoch.
        warm_up_epochs: passes after which the means are set anew from the latents; None = never.
    """

    train: TrainConfig
    checkpoint: CheckpointConfig
    seed: int
    log_every: int
    estimate_prior: bool = False
    warm_up_epochs: float | None = None


@dataclass(frozen=True)
class LoopResult:
    """What training ends with.

    Attributes:
        model: the teacher to keep: that of the best epoch where a metric is watched, else the last.
        progress: steps and seconds.
        epochs: passes made.
        metric: what was watched; None if nothing was.
    """

    model: FlowMixture
    progress: Progress
    epochs: float
    metric: str | None


@dataclass(frozen=True)
class Hooks:
    """How the loop talks to the outside.

    Attributes:
        stop: asked after each step; true saves the state and ends the loop.
        advance: called after each step with (step, steps, values to show).
    """

    stop: Callable[[], bool] = lambda: False
    advance: Callable[[int, int, Mapping[str, Any]], None] = lambda step, steps, values: None


def fit(
    step_module: TrainingStep,
    rows: TrainingRows,
    settings: LoopSettings,
    engine: Engine,
    *,
    monitor: Monitor | None = None,
    folder: Path | None = None,
    metrics: Path | None = None,
    hooks: Hooks | None = None,
) -> LoopResult:
    """Train, from the last checkpoint in `folder` if there is one.

    Args:
        step_module: the losses around the student; its model is trained in place.
        rows: training rows on the engine's device.
        settings: lengths and rates.
        engine: device and precision.
        monitor: measures the teacher on held-out rows after each epoch.
        folder: of the checkpoints; None saves none.
        metrics: file of the metrics; None writes none.
        hooks: progress and interruption.

    Raises:
        RunFailedError: the loss is not finite; what was saved before is kept.
        InterruptedRunError: `hooks.stop` said so; the state is saved.
    """
    config, hooks = settings.train, hooks or Hooks()
    model = step_module.model
    teacher = make_teacher(model)
    optimiser = make_optimiser(model, config)
    last = folder / "last.safetensors" if folder else None
    best = BestModel(folder / "best.safetensors" if folder else None)
    progress = load_checkpoint(last, model, teacher, optimiser) if last and last.exists() else Progress()
    log = MetricsLog(metrics, after=progress.step)

    sampler = Sampler(
        rows,
        batch_size=config.batch_size,
        labelled_batch_size=config.labelled_batch_size,
        seed=settings.seed,
    )
    per_epoch = sampler.steps_per_epoch
    steps = min(config.epochs * per_epoch, config.max_steps or config.epochs * per_epoch)
    warm_up = warm_up_steps(settings.warm_up_epochs, per_epoch=per_epoch, steps=steps)
    guard = Guard(engine.device)
    forward = torch.compile(step_module) if config.compile else step_module
    noise = torch.Generator(engine.device)
    clock = _Clock(progress.seconds)
    saver = _Saver(settings.checkpoint, per_epoch)

    def save() -> None:
        progress.seconds = clock.seconds()
        best.save()  # before the state that speaks of it
        if last:
            save_checkpoint(last, model, teacher, optimiser, progress)

    def inputs(step: int) -> tuple[StepInput, torch.Generator]:
        labelled, unlabelled = sampler.batch(step)
        batch = StepInput(
            labelled=rows.forms[labelled],
            labels=rows.labels[labelled],
            unlabelled=rows.forms[unlabelled],
            step=step,
            epoch=step / per_epoch,
        )
        return batch, noise.manual_seed(generator(settings.seed, "step", step).initial_seed())

    def check() -> None:
        bad = guard.first_bad_step()
        if bad is not None:
            batch, randomness = inputs(bad)
            with engine.autocast():
                raise explain(step_module, teacher, batch, randomness)

    model.train()
    while progress.step < steps and not progress.stopped:
        step = progress.step
        batch, randomness = inputs(step)
        with engine.autocast(), seeded_layers(randomness):
            terms: dict[str, Tensor] = forward(teacher, batch, randomness)
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or float("inf"))
        rate = learning_rate(config, step, steps)
        set_learning_rate(optimiser, rate)
        guard.watch(optimiser, step, loss, norm)
        optimiser.step()
        update_teacher(teacher, model, decay=config.ema, step=step)

        progress.step = done = step + 1
        if done == warm_up:
            set_latent_means(
                model,
                teacher,
                optimiser,
                rows,
                temperature=step_module.objective.temperature,
                seed=settings.seed,
            )
        ends_epoch = done % per_epoch == 0 or done == steps
        values: dict[str, float] = {}
        if done % settings.log_every == 0 or ends_epoch:
            check()
            values = {"loss": loss.item()} | {f"loss.{name}": term.item() for name, term in terms.items()}
            log.write(
                step=done, epoch=done / per_epoch, split="train", seconds=clock.seconds(), **values, lr=rate
            )
        if ends_epoch:
            if settings.estimate_prior:
                estimate_class_prior(model, teacher, rows, step_module.objective.temperature)
            if monitor:
                reading = monitor.measure(teacher)
                log.write(
                    step=done, epoch=done / per_epoch, split="val", seconds=clock.seconds(), **reading.values
                )
                values |= reading.values
                if _improves(progress, reading, epoch=-(-done // per_epoch)):
                    best.keep(teacher)
                progress.stopped = _gives_up(progress, config)
        hooks.advance(done, steps, values)
        if done == steps or progress.stopped or saver.due(done):
            check()
            save()
        elif hooks.stop():
            check()
            save()
            raise InterruptedRunError(f"stopped by you after step {done} of {steps}; the state is saved")
    best.restore(teacher)
    return LoopResult(teacher, progress, progress.step / per_epoch, monitor.metric if monitor else None)


def _improves(progress: Progress, reading: Reading, *, epoch: int) -> bool:
    better = reading.better_than(progress.best)
    if better:
        progress.best, progress.best_epoch, progress.stale = reading.watched, epoch, 0
    else:
        progress.stale += 1
    return better


def _gives_up(progress: Progress, config: TrainConfig) -> bool:
    return config.early_stopping is not None and progress.stale >= config.early_stopping.patience


class _Clock:
    """Training time over all sittings."""

    def __init__(self, before: float) -> None:
        self.before = before
        self.start = time.monotonic()

    def seconds(self) -> float:
        return self.before + time.monotonic() - self.start


class _Saver:
    """Decides after which steps the state is saved."""

    def __init__(self, config: CheckpointConfig, per_epoch: int) -> None:
        self.config = config
        self.per_epoch = per_epoch
        self.last = time.monotonic()

    def due(self, done: int) -> bool:
        config = self.config
        due = bool(
            (config.every_epochs and done % (config.every_epochs * self.per_epoch) == 0)
            or (config.every_steps and done % config.every_steps == 0)
            or (config.every_minutes and time.monotonic() - self.last >= 60 * config.every_minutes)
        )
        if due:
            self.last = time.monotonic()
        return due

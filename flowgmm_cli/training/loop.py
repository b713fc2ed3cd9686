"""The training loop, read top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
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
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.random_layers import seeded_layers
from flowgmm_cli.training.sampler import Sampler, TrainingRows
from flowgmm_cli.training.saving import Clock, Saver
from flowgmm_cli.training.sharded import losses_of, read, sharded
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
    processes: Processes | None = None,
) -> LoopResult:
    """Train, from the last checkpoint in `folder` if there is one.

    Where several processes train together, all call this with the same arguments.

    Args:
        step_module: the losses around the student; its model is trained in place.
        rows: training rows on the engine's device.
        settings: lengths and rates.
        engine: device and precision.
        monitor: measures the teacher on held-out rows after each epoch.
        folder: of the checkpoints; None saves none.
        metrics: file of the metrics; None writes none.
        hooks: progress and interruption.
        processes: those that train together; None = this one.

    Raises:
        RunFailedError: the loss is not finite; what was saved before is kept. Or another process is gone; the
            state is saved.
        LostProcessError: the same, in a process that saves nothing.
        InterruptedRunError: `hooks.stop` said so, here or in another process; the state is saved.
    """
    config, hooks, processes = settings.train, hooks or Hooks(), processes or Processes()
    model = step_module.model
    teacher = make_teacher(model)
    optimiser = make_optimiser(model, config)
    last = folder / "last.safetensors" if folder else None
    best = BestModel(folder / "best.safetensors" if folder else None)
    progress = load_checkpoint(last, model, teacher, optimiser) if last and last.exists() else Progress()
    log = MetricsLog(metrics if processes.leads else None, after=progress.step)

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
    student, tutor = sharded(model, processes), sharded(teacher, processes)
    forward = losses_of(step_module, student, mode=config.compile)
    noise = torch.Generator(engine.device)
    clock = Clock(progress.seconds)
    saver = Saver(settings.checkpoint, per_epoch)
    asked = torch.zeros((), device=engine.device)  # whether any process is to stop
    waits = engine.device.type == "cpu"  # else a look at it makes the host wait for the device
    between_steps = True  # the state is that after a whole number of steps, measured and all

    def save() -> None:
        if not processes.leads:
            return
        progress.seconds = clock.seconds()
        best.save()  # before the state that speaks of it
        if last:
            save_checkpoint(last, model, teacher, optimiser, progress)

    def agree() -> None:
        # processors of different makes round differently
        processes.agree([*model.state_dict().values(), *teacher.state_dict().values()])

    def inputs(step: int, processes: Processes) -> tuple[StepInput, torch.Generator]:
        labelled, unlabelled = sampler.batch(step)
        batch = StepInput(
            labelled=read(rows.forms, labelled, processes),
            labels=rows.labels[labelled],
            unlabelled=read(rows.forms, unlabelled, processes),
            step=step,
            epoch=step / per_epoch,
        )
        return batch, noise.manual_seed(generator(settings.seed, "step", step).initial_seed())

    def check() -> None:
        bad = guard.first_bad_step()
        if bad is not None:
            batch, randomness = inputs(bad, Processes())
            with engine.autocast():
                raise explain(step_module, teacher, batch, randomness)

    @contextmanager
    def rescue() -> Iterator[None]:
        try:
            yield
        except LostProcessError as error:
            if not processes.leads:
                raise
            if between_steps:
                check()
                save()
            kept = f"the state after step {progress.step}" if between_steps else "what was saved before"
            raise RunFailedError(f"{error.message}; {kept} is kept") from error

    with rescue():
        agree()
        model.train()
        while progress.step < steps and not progress.stopped:
            step = progress.step
            batch, randomness = inputs(step, processes)
            with engine.autocast(), seeded_layers(randomness, processes.rank):
                terms = forward(tutor, batch, randomness)
            loss = torch.stack(list(terms.values())).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            if not processes.alone:
                loss = loss.detach()  # what is not finite in one process is so in all
                asked.fill_(hooks.stop())
                slopes = [one.grad for one in model.parameters() if one.grad is not None]
                processes.average([*slopes, loss, asked])
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or float("inf"))
            rate = learning_rate(config, step, steps)
            set_learning_rate(optimiser, rate)
            guard.watch(optimiser, step, loss, norm)
            between_steps = False
            optimiser.step()
            update_teacher(teacher, model, decay=config.ema, step=step)

            progress.step = done = step + 1
            if done == warm_up:
                set_latent_means(
                    student,
                    tutor,
                    optimiser,
                    rows,
                    temperature=step_module.objective.temperature,
                    seed=settings.seed,
                )
                agree()
            ends_epoch = done % per_epoch == 0 or done == steps
            values: dict[str, float] = {}
            if done % settings.log_every == 0 or ends_epoch:
                check()
                values = {"loss": loss.item()} | {f"loss.{name}": term.item() for name, term in terms.items()}
                log.write(
                    step=done,
                    epoch=done / per_epoch,
                    split="train",
                    seconds=clock.seconds(),
                    **values,
                    lr=rate,
                )
            if ends_epoch:
                if settings.estimate_prior:
                    temperature = step_module.objective.temperature
                    estimate_class_prior(model, teacher, rows, temperature, processes)
                agree()
                if monitor:
                    reading = _leaders(monitor.measure(tutor), processes)
                    log.write(
                        step=done,
                        epoch=done / per_epoch,
                        split="val",
                        seconds=clock.seconds(),
                        **reading.values,
                    )
                    values |= reading.values
                    if _improves(progress, reading, epoch=-(-done // per_epoch)):
                        best.keep(teacher)
                    progress.stopped = _gives_up(progress, config)
            between_steps = True
            hooks.advance(done, steps, values)
            stops = hooks.stop() if processes.alone else bool((waits or values) and asked)
            if done == steps or progress.stopped or saver.due(done):
                check()
                save()
            elif stops:
                check()
                save()
                raise InterruptedRunError(f"stopped by you after step {done} of {steps}; the state is saved")
    best.restore(teacher)
    return LoopResult(teacher, progress, progress.step / per_epoch, monitor.metric if monitor else None)


def _leaders(reading: Reading, processes: Processes) -> Reading:
    """What the leader has measured, so that all decide alike by it."""
    return reading if processes.alone else replace(reading, values=processes.numbers(reading.values))


def _improves(progress: Progress, reading: Reading, *, epoch: int) -> bool:
    better = reading.better_than(progress.best)
    if better:
        progress.best, progress.best_epoch, progress.stale = reading.watched, epoch, 0
    else:
        progress.stale += 1
    return better


def _gives_up(progress: Progress, config: TrainConfig) -> bool:
    return config.early_stopping is not None and progress.stale >= config.early_stopping.patience

"""The training loop, read top to bottom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
from flowgmm_cli.seeds import generator
from flowgmm_cli.training.checkpoint import BestModel, Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.engine import Engine
from flowgmm_cli.training.fsdp import divided, shard
from flowgmm_cli.training.gradients import Gradients, own_parameters
from flowgmm_cli.training.guard import Guard, explain
from flowgmm_cli.training.metrics_log import MetricsLog
from flowgmm_cli.training.monitor import Monitor, Reading
from flowgmm_cli.training.optim import (
    averaged,
    learning_rate,
    make_optimiser,
    make_teacher,
    set_learning_rate,
    update_teacher,
)
from flowgmm_cli.training.prior import estimate_class_prior
from flowgmm_cli.training.processes import Processes, noticed
from flowgmm_cli.training.random_layers import seeded_layers
from flowgmm_cli.training.sampler import Sampler, TrainingRows
from flowgmm_cli.training.saving import Clock, Saver
from flowgmm_cli.training.settings import Hooks, LoopResult, LoopSettings
from flowgmm_cli.training.sharded import losses_of, read, sharded
from flowgmm_cli.training.step import StepInput, TrainingStep
from flowgmm_cli.training.warm_up import set_latent_means, warm_up_steps


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
        step_module: the losses around the student; its model is trained in place, and with `train.fsdp` its
            flow is divided.
        rows: training rows on the engine's device.
        settings: lengths and rates.
        engine: device and precision.
        monitor: measures the teacher on held-out rows after each epoch.
        folder: of the checkpoints; None saves none.
        metrics: file of the metrics; None writes none.
        hooks: progress and interruption.
        processes: those that train together; None = this one.

    Raises:
        RecipeError: `train.fsdp` with a flow that does not work in parts.
        RunFailedError: the loss is not finite; what was saved before is kept. Or another process is gone; the
            state is saved, unless its weights went with that process.
        LostProcessError: the same, in a process that saves nothing.
        InterruptedRunError: `hooks.stop` said so, here or in another process; the state is saved.
    """
    config, hooks, processes = settings.train, hooks or Hooks(), processes or Processes()
    model = step_module.model
    teacher = make_teacher(model)
    sharding = shard((model, teacher), rows.x[:2], processes, on=config.fsdp)
    parameters = own_parameters(model)
    optimiser = make_optimiser(model, config, parameters)
    gradients = Gradients(model, parameters, processes, optimiser)
    average = averaged(teacher, model, optimiser, decay=config.ema)
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
    # whether any process is to stop, and whether one of them thinks it late for saving
    asked, late = torch.zeros(2, device=engine.device)
    waits = engine.device.type == "cpu"  # else a look at it makes the host wait for the device
    between_steps = True  # the state is that after a whole number of steps, measured and all

    def save() -> None:
        if not (processes.leads or sharding.on):
            return
        progress.seconds = clock.seconds()
        best.save(writes=processes.leads)  # before the state that speaks of it
        if last:
            save_checkpoint(last, model, teacher, optimiser, progress, writes=processes.leads)

    def agree() -> None:
        # processors of different makes round differently
        state = [*model.state_dict().values(), *teacher.state_dict().values()]
        processes.agree([one for one in state if not divided(one)])

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
            step_module.model = sharding.whole(model)
            tutor = sharding.whole(teacher)
            with engine.autocast():
                raise explain(step_module, tutor, batch, randomness)

    @contextmanager
    def rescue() -> Iterator[None]:
        try:
            with noticed():
                yield
        except LostProcessError as error:
            if not processes.leads:
                raise
            complete = between_steps and not sharding.on
            if complete:
                check()
                save()
            kept = f"the state after step {progress.step}" if complete else "what was saved before"
            raise RunFailedError(f"{error.message}; {kept} is kept") from error

    with closing(sampler), rescue():
        agree()
        model.train()
        while progress.step < steps and not progress.stopped:
            step = progress.step
            batch, randomness = inputs(step, processes)
            with engine.autocast(), seeded_layers(randomness, processes.rank):
                terms = forward(tutor, batch, randomness)
            loss = torch.stack(list(terms.values())).sum()
            gradients.clear()
            torch.autograd.backward(loss)
            if not processes.alone:
                loss = loss.detach()  # what is not finite in one process is so in all
                asked.fill_(hooks.stop())
                late.fill_(saver.late())
                gradients.average(loss, asked, late)
            norm = gradients.clip(config.clip_norm)
            rate = learning_rate(config, step, steps)
            set_learning_rate(optimiser, rate)
            guard.watch(optimiser, step, loss, norm)
            between_steps = False
            optimiser.step()
            update_teacher(*average, decay=config.ema, step=step)

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
                    better = reading.better_than(progress.best)
                    progress.judge(reading.watched, better=better, epoch=-(-done // per_epoch))
                    if better:
                        best.keep(teacher)
                    stopping = config.early_stopping
                    progress.stopped = stopping is not None and progress.stale >= stopping.patience
            between_steps = True
            hooks.advance(done, steps, values)
            looks = bool(waits or values)
            stops = hooks.stop() if processes.alone else looks and bool(asked)
            due = saver.due(done, late=None if processes.alone else looks and bool(late))
            if done == steps or progress.stopped or due:
                check()
                save()
            elif stops:
                check()
                save()
                raise InterruptedRunError(f"stopped by you after step {done} of {steps}; the state is saved")
    best.restore(teacher)
    return LoopResult(
        sharding.whole(teacher), progress, progress.step / per_epoch, monitor.metric if monitor else None
    )


def _leaders(reading: Reading, processes: Processes) -> Reading:
    """What the leader has measured, so that all decide alike by it."""
    return reading if processes.alone else replace(reading, values=processes.numbers(reading.values))

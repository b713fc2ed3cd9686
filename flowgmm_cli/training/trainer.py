"""The training loop, read top to bottom."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine
from flowgmm_cli.errors import InterruptedRunError, LostProcessError, RunFailedError
from flowgmm_cli.metrics_log import MetricsLog
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.seeds import seeded_layers
from flowgmm_cli.training import optim
from flowgmm_cli.training.callbacks import Interrupt
from flowgmm_cli.training.checkpoint import (
    BestModel,
    CheckpointSchedule,
    Progress,
    load_checkpoint,
    save_checkpoint,
)
from flowgmm_cli.training.dataset import Sampler, step_generator
from flowgmm_cli.training.distributed import Distributed, translate_errors
from flowgmm_cli.training.fsdp import is_sharded, local_parameters, local_shard, shard_models
from flowgmm_cli.training.guard import NonFiniteGuard, explain
from flowgmm_cli.training.model_init import (
    estimate_class_prior,
    prior_config,
    set_latent_means,
    warm_up_steps,
)
from flowgmm_cli.training.step import TrainingStep
from flowgmm_cli.training.validation import Validator, is_better


@dataclass(frozen=True)
class FitResult:
    """Result of a training.

    The model is the teacher of the best epoch if a metric is watched, else of the last. `epochs` is a
    fraction if training stopped within one, `temperature` that of the objective.
    """

    model: FlowMixture
    progress: Progress
    epochs: float
    metric: str | None
    temperature: float


class Trainer:
    """Trains a student and its averaged teacher, from the last checkpoint if there is one.

    Where several processes train together, each has a trainer with the same arguments.

    Args:
        step_module: losses around the student, which is trained in place; `train.fsdp` shards its flow.
        rows: training rows on the engine's device.
        recipe: settings of the training; its components are those of `step_module`.
        validator: measures the teacher on held-out rows after each epoch.
        run: keeps checkpoints and metrics; None for a training that keeps nothing.
        interrupt: asks the training to save and stop.
        on_step: called after each step with the steps that are done, all steps, and metrics.
        group: the processes that train together; None = this one.

    Raises:
        RecipeError: `train.fsdp` with a flow that cannot be sharded.
        RunError: the checkpoint is damaged or of another model.
    """

    def __init__(
        self,
        step_module: TrainingStep,
        rows: Tensors,
        recipe: Recipe,
        engine: Engine,
        *,
        validator: Validator | None = None,
        run: Run | None = None,
        interrupt: Interrupt | None = None,
        on_step: Callable[[int, int, Mapping[str, Any]], None] = lambda step, steps, values: None,
        group: Distributed | None = None,
    ) -> None:
        self.step_module, self.rows, self.recipe, self.engine = step_module, rows, recipe, engine
        self.validator, self.on_step = validator, on_step
        self.interrupt, self.group = interrupt or Interrupt(), group or Distributed()
        train, prior = recipe.train, prior_config(recipe)
        self.temperature, self.model = step_module.objective.temperature, step_module.model
        self.teacher = optim.create_ema_model(self.model)
        models = self.teacher, self.model
        self.sharding = shard_models(models, rows.x[:2], self.group, on=train.fsdp)
        self.parameters = local_parameters(self.model)
        self.ema_pairs = tuple([local_shard(weight) for weight in model.parameters()] for model in models)
        self.optimiser = optim.create_optimiser(self.model, train, self.parameters)
        self.last_path = run.checkpoints / "last.safetensors" if run else None
        self.best = BestModel(run.checkpoints / "best.safetensors" if run else None)
        self.progress = Progress()
        if self.last_path and self.last_path.exists():
            self.progress = load_checkpoint(self.last_path, self.model, self.teacher, self.optimiser)
        metrics = run.metrics if run and self.group.is_main_process else None
        self.log = MetricsLog(metrics, last_step=self.progress.step)
        self.forward = self._wrap()

        self.sampler = Sampler(
            rows,
            batch_size=train.batch_size,
            labelled_batch_size=train.labelled_batch_size,
            seed=recipe.run.seed,
            pool=step_module.objective.pool,
            group=self.group,
        )
        self.steps_per_epoch = self.sampler.steps_per_epoch
        steps = train.epochs * self.steps_per_epoch
        self.steps = min(steps, train.max_steps or steps)
        self.estimates_prior = prior.class_prior == "estimated"
        warm_up = prior.warm_up_epochs if prior.means == "latent" else None
        self.warm_up = warm_up_steps(warm_up, per_epoch=self.steps_per_epoch, steps=self.steps)
        self.guard = NonFiniteGuard(engine.device)
        self.schedule = CheckpointSchedule(recipe.checkpoint, self.steps_per_epoch)
        self.start = time.monotonic() - self.progress.seconds
        self.flags = torch.zeros(2, device=engine.device)  # processes that should stop, are late to save
        self._step_is_complete = True

    def fit(self) -> FitResult:
        """Train to the end.

        Raises:
            RunFailedError: the loss is not finite, and earlier checkpoints are kept; or another process is
                gone, and the state is saved unless its weights were sharded.
            LostProcessError: another process is gone, in a process that saves nothing.
            InterruptedRunError: the user stopped any of the processes; the state is saved.
        """
        progress = self.progress
        with closing(self.sampler), self._save_if_peer_fails():
            self._synchronise()
            self.model.train()
            while progress.step < self.steps and not progress.stopped:
                terms, rate = self._train_step()
                step = progress.step
                if step == self.warm_up:
                    parts = self.model, self.teacher, self.optimiser, self.rows
                    set_latent_means(*parts, temperature=self.temperature, seed=self.recipe.run.seed)
                    self._synchronise()
                ends_epoch = step % self.steps_per_epoch == 0 or step == self.steps
                values: dict[str, float] = {}
                if ends_epoch or step % self.recipe.run.log_every == 0:
                    values = self._log_losses(terms, rate)
                if ends_epoch:
                    values |= self._end_epoch()
                self._step_is_complete = True
                self.on_step(step, self.steps, values)
                self._save_or_stop(bool(values))
        self.best.restore(self.teacher)
        metric = self.validator.metric if self.validator else None
        teacher, epochs = self.sharding.full_model(self.teacher), progress.step / self.steps_per_epoch
        return FitResult(teacher, progress, epochs, metric, self.temperature)

    def _train_step(self) -> tuple[dict[str, Tensor], float]:
        """Take one optimiser step; returns the loss terms and the learning rate."""
        train, step = self.recipe.train, self.progress.step
        batch = self.sampler.batch(step)
        rng = step_generator(self.engine.device, self.recipe.run.seed, step, self.group.rank)
        with self.engine.autocast(), seeded_layers(rng):
            terms = self.forward(self.teacher, *batch, rng, step=step, epoch=step / self.steps_per_epoch)
        loss = torch.stack(list(terms.values())).sum()
        self.model.zero_grad()
        torch.autograd.backward(self.guard.poison(loss))
        if self.group.world_size > 1:
            self._exchange()
        norm = optim.gradient_norm(self.model)
        optim.clip_gradients(self.optimiser, norm, train.clip_norm)
        if self.sharding.on:  # the optimiser reads the gradients of local shards
            for name, parameter in self.model.named_parameters():
                self.parameters[name].grad = local_shard(parameter.grad)
        rate = optim.learning_rate(train, step, self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.guard.watch(self.optimiser, step, norm)
        self._step_is_complete = False
        self.optimiser.step()
        optim.update_ema(*self.ema_pairs, decay=train.ema, step=step)
        self.progress.step = step + 1
        return terms, rate

    def _end_epoch(self) -> dict[str, float]:
        """Estimate the class weights, measure the teacher, keep it if it is the best."""
        step, progress = self.progress.step, self.progress
        if self.estimates_prior:
            models, rows = (self.model, self.teacher), (self.rows.x, self.sampler.pool)
            estimate_class_prior(*models, *rows, self.temperature, self.group)
        self._synchronise()
        if self.validator is None:
            return {}
        values, metric = self.validator.measure(self.teacher), self.validator.metric
        self._write_log("val", values)
        if is_better(metric, values[metric], progress.best):
            progress.best, progress.best_epoch = values[metric], -(-step // self.steps_per_epoch)
            progress.stale = 0
            self.best.update(self.teacher)
        else:
            progress.stale += 1
        stopping = self.recipe.train.early_stopping
        progress.stopped = stopping is not None and progress.stale >= stopping.patience
        return values

    def _log_losses(self, terms: dict[str, Tensor], rate: float) -> dict[str, float]:
        """Write the mean loss terms of all processes; waits for the device."""
        self._require_finite()
        means = self.group.all_reduce(torch.stack(list(terms.values())).detach()) / self.group.world_size
        names = [f"loss.{name}" for name in terms]
        values = {"loss": float(means.sum()), **dict(zip(names, means.tolist(), strict=True))}
        self._write_log("train", {**values, "lr": rate})
        return values

    def _write_log(self, split: str, values: dict[str, float]) -> None:
        step, seconds = self.progress.step, time.monotonic() - self.start
        self.log.write(step=step, epoch=step / self.steps_per_epoch, split=split, seconds=seconds, **values)

    def _require_finite(self) -> None:
        """Raise `RunFailedError` if a step was skipped; waits for the device."""
        step = self.guard.first_bad_step()
        if step is None:
            return
        self.step_module.model = self.sharding.full_model(self.model)
        teacher = self.sharding.full_model(self.teacher)
        rng = step_generator(self.engine.device, self.recipe.run.seed, step)
        with self.engine.autocast():
            rows, epoch = self.sampler.batch(step, whole=True), step / self.steps_per_epoch
            raise explain(self.step_module, teacher, rows, rng, step=step, epoch=epoch)

    # --- checkpoints ---

    def _save(self) -> None:
        self._require_finite()
        writes = self.group.is_main_process
        if self.last_path and (writes or self.sharding.on):
            self.progress.seconds = time.monotonic() - self.start
            self.best.save(writes=writes)  # before the state that refers to it
            state = (self.model, self.teacher, self.optimiser, self.progress)
            save_checkpoint(self.last_path, *state, writes=writes)

    def _save_or_stop(self, has_waited: bool) -> None:
        """Save if it is due, and stop if the user asks; `has_waited`: the host has waited for the device."""
        step, stops, is_late = self.progress.step, False, None
        if self.group.world_size == 1:
            stops = self.interrupt.is_requested()
        else:  # to read a flag on a GPU is to wait for it
            can_read = has_waited or self.engine.device.type == "cpu"
            stops, is_late = (can_read and bool(flag) for flag in self.flags)
        is_due = self.schedule.is_due(step, is_late=is_late)
        if step == self.steps or self.progress.stopped or is_due or stops:
            self._save()
        if stops and not is_due and step < self.steps and not self.progress.stopped:
            raise InterruptedRunError(f"stopped by you after step {step} of {self.steps}; the state is saved")

    # --- several processes ---

    def _wrap(self) -> Callable[..., dict[str, Tensor]]:
        """Compile the step if the recipe says so, and let its gradients be averaged over the processes."""
        forward: Callable[..., dict[str, Tensor]] = self.step_module
        if mode := self.recipe.train.compile:
            forward = torch.compile(forward, mode=mode if isinstance(mode, str) else None)
        if self.group.world_size == 1 or self.sharding.on:
            return forward
        # some losses do not read all parameters, and torch warns if all are read
        warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
        warnings.filterwarnings("ignore", message=".*`broadcast_buffers` is deprecated")
        return DistributedDataParallel(
            forward, broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True
        )

    def _exchange(self) -> None:
        """Add up the flags, and average gradients of parameters beside a sharded flow."""
        self.flags[0].fill_(self.interrupt.is_requested())
        self.flags[1].fill_(self.schedule.is_late())
        self.group.all_reduce(self.flags)
        if self.sharding.on:
            for parameter in self.model.parameters():
                if parameter.grad is not None and not is_sharded(parameter):
                    self.group.all_reduce(parameter.grad).div_(self.group.world_size)

    def _synchronise(self) -> None:
        """Copy the weights of the main process: processors of different makes round differently."""
        state = [*self.model.state_dict().values(), *self.teacher.state_dict().values()]
        self.group.broadcast([tensor for tensor in state if not is_sharded(tensor)])

    @contextmanager
    def _save_if_peer_fails(self) -> Iterator[None]:
        try:
            with translate_errors():
                yield
        except LostProcessError as error:
            if not self.group.is_main_process:
                raise
            can_save = self._step_is_complete and not self.sharding.on
            if can_save:
                self._save()
            step = self.progress.step
            kept = f"the state after step {step} is" if can_save else "earlier checkpoints are"
            raise RunFailedError(f"{error.message}; {kept} kept") from error

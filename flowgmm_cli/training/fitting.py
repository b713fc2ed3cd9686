"""One model trained with one choice of visible labels: the whole run's, or those of a calibration fold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch

from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.mixture.specs import GMMConfig
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.runs import Run
from flowgmm_cli.training.build import start_model
from flowgmm_cli.training.engine import Engine, rounded_products, suitable_threads
from flowgmm_cli.training.inputs import Inputs
from flowgmm_cli.training.interrupt import Interrupt
from flowgmm_cli.training.loop import fit
from flowgmm_cli.training.monitor import Monitor
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.sampler import TrainingRows
from flowgmm_cli.training.settings import Hooks, LoopResult, LoopSettings
from flowgmm_cli.training.step import TrainingStep, build_step
from flowgmm_cli.training.viewing import Forms

_SHOWN = {"monitor.bits_per_dim": "bits/dim"}


@dataclass(frozen=True)
class Talk:
    """What a run tells while it works.

    Attributes:
        progress: `progress(done, total, what, detail)`.
        note: one line for the user.
    """

    progress: Callable[[int, int, str, str], None] = lambda done, total, what, detail: None
    note: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Fitting:
    """All that a training needs beside its labels.

    Attributes:
        recipe: components, lengths, seed.
        data: rows.
        engine: device and precision.
        talk: progress.
        interrupt: a request to stop.
        processes: those that train together, each with a `Fitting` of its own; the leader alone writes.
    """

    recipe: Recipe
    data: Inputs
    engine: Engine
    talk: Talk
    interrupt: Interrupt
    processes: Processes = field(default_factory=Processes)

    def begin(
        self, labels: npt.NDArray[np.int64], *, run: Run | None = None, what: str = "train"
    ) -> Training:
        """Build a model, its losses and its rows.

        Args:
            labels: visible labels of the training rows `(N,)`, -1 where there is none.
            run: keeps checkpoints and metrics, and is monitored; None for a training in passing.
            what: what the progress is called.
        """
        visible = torch.from_numpy(labels)
        step = self.start(visible)
        operations = self._operations(step) / self.processes.count
        return Training(self, step, self._rows(visible, step), operations, run, what)

    def start(self, visible: torch.Tensor) -> TrainingStep:
        """The model at its start, with all its losses, on the device."""
        recipe, x = self.recipe, self.data.train.x
        seen = int((visible >= 0).sum())
        model = start_model(
            recipe,
            x,
            visible,
            classes=self.data.classes,
            seed=recipe.run.seed,
            shape=self.data.preprocessor.shape,
        )
        return build_step(
            recipe,
            model.to(self.engine.device),
            features=x.shape[1],
            labelled=seen,
            unlabelled=self.data.train.total - seen,
            preprocessor=self.data.preprocessor,
        )

    def short_of_ramps(self) -> Iterator[str]:
        """What to say of terms that never come to their full weight, for training ends before."""
        train, rows = self.recipe.train, self.data.train.total
        passes = float(train.epochs)
        if train.max_steps:
            passes = min(passes, train.max_steps * min(train.batch_size, rows) / rows)
        for index, one in enumerate(self.recipe.regularisers):
            ramp = getattr(one.config, "ramp_epochs", 0.0)
            if ramp > passes:
                yield (
                    f"ramp    {one.use} grows over {ramp:g} epochs, and training has {passes:.2g}; "
                    f"regularisers.{index}.ramp_epochs sets how many"
                )

    def _operations(self, step: TrainingStep) -> float:
        """Floating-point operations of a step: forward and twice that backward, and the teacher's forward."""
        rows = min(self.recipe.train.batch_size, len(self.data.train)) + self.recipe.train.labelled_batch_size
        flow = step.model.flow
        if isinstance(flow, FlatFlow):  # a weight of a convolution is used for every pixel
            return 4 * rows * self._operations_of_a_row(flow)
        return 4 * 2.0 * rows * sum(parameter.numel() for parameter in flow.parameters())

    @torch.no_grad()
    def _operations_of_a_row(self, flow: FlatFlow) -> float:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            flow(self.data.train.x[:1].to(self.engine.device))
        return float(counter.get_total_flops())

    def _rows(self, visible: torch.Tensor, step: TrainingStep) -> TrainingRows:
        device = self.engine.device
        seen = visible >= 0
        in_pool = torch.ones_like(seen) if step.objective.pool == "all" else ~seen
        return TrainingRows(
            forms=Forms.of(self.data.train).to(device),
            labels=visible.to(device),
            labelled=seen.nonzero().flatten().to(device),
            pool=in_pool.nonzero().flatten().to(device),
        )


@dataclass(frozen=True)
class Training:
    """A training that is ready to begin.

    Attributes:
        fitting: its recipe and surroundings.
        step: model and losses.
        rows: what it sees.
        operations: floating-point operations of a step.
        run, what: see `Fitting.begin`.
    """

    fitting: Fitting
    step: TrainingStep
    rows: TrainingRows
    operations: float
    run: Run | None
    what: str

    def carry_out(self) -> LoopResult:
        """Train, from the last checkpoint of the run if it has one."""
        fitting, run = self.fitting, self.run
        recipe, engine = fitting.recipe, fitting.engine
        prior = cast(GMMConfig, recipe.prior.config)
        with (
            suitable_threads(engine, self.operations),
            rounded_products(engine, recipe.train.tf32),
            fitting.interrupt.deferred(),
        ):
            return fit(
                self.step,
                self.rows,
                LoopSettings(
                    train=recipe.train,
                    checkpoint=recipe.checkpoint,
                    seed=recipe.run.seed,
                    log_every=recipe.run.log_every,
                    estimate_prior=prior.class_prior == "estimated",
                    warm_up_epochs=prior.warm_up_epochs if prior.means == "latent" else None,
                ),
                engine,
                monitor=self._monitor() if run else None,
                folder=run.checkpoints if run else None,
                metrics=run.metrics if run else None,
                hooks=Hooks(stop=fitting.interrupt.requested, advance=self._advance()),
                processes=fitting.processes,
            )

    def _monitor(self) -> Monitor | None:
        fitting = self.fitting
        val, device = fitting.data.val, fitting.engine.device
        if val is None:
            return None
        return Monitor(
            self.step,
            Forms.of(val).to(device),
            val.labels.to(device),
            metric=fitting.recipe.checkpoint.best.metric,
            seed=fitting.recipe.run.seed,
            engine=fitting.engine,
            pixels=fitting.data.preprocessor.pixels,
            log_det=val.log_det,
        )

    def _advance(self) -> Callable[[int, int, Mapping[str, Any]], None]:
        shown = ""

        def advance(done: int, steps: int, values: Mapping[str, Any]) -> None:
            nonlocal shown
            if values:
                names = ("loss", "val.accuracy", "monitor.agreement", "monitor.bits_per_dim")
                seen = [f"{_SHOWN.get(name, name)} {values[name]:.3f}" for name in names if name in values]
                shown = "  ".join(seen) or shown
            self.fitting.talk.progress(done, steps, self.what, shown)

        return advance

"""What is measured on held-out rows after each epoch, and which of it decides."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.lazy_dataset import load_tensor
from flowgmm_cli.evaluation.evaluate import bits_per_dim
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import chunk_rows
from flowgmm_cli.training.engine import Engine
from flowgmm_cli.training.step import StepInput, TrainingStep
from flowgmm_cli.training.viewing import Forms

_HIGHER_IS_BETTER = {"val.accuracy", "monitor.agreement"}
_LATE = 1e9  # an epoch after every ramp


@dataclass(frozen=True)
class Reading:
    """One measurement.

    Attributes:
        metric: the watched one.
        values: all of them, by name.
    """

    metric: str
    values: dict[str, float]

    @property
    def watched(self) -> float:
        """Value of the watched metric."""
        return self.values[self.metric]

    def better_than(self, other: float | None) -> bool:
        """Whether this is better than another value, or than none; one that is not finite never is."""
        if other is None or not math.isfinite(self.watched):
            return math.isfinite(self.watched)
        if self.metric in _HIGHER_IS_BETTER:
            return self.watched > other
        return self.watched < other


class Monitor:
    """Measures a teacher on held-out rows.

    `monitor.*` uses no label: `monitor.loss` is what training minimises on unlabelled rows,
    `monitor.agreement` the share of rows with the same class under both views. `val.*` needs held-out rows
    with labels. Of pixels, `monitor.bits_per_dim` is how many bits each of them takes, at most.

    Args:
        step_module: the losses.
        rows: V held-out rows, on the device.
        labels: int64 `(V,)`, -1 where they may not be seen.
        metric: the watched one, or `auto`: `val.accuracy` with labels, `monitor.loss` without.
        seed: fixes the views, the same after each epoch.
        engine: precision.
        pixels: how many pixels a row has; None where rows are none.
        log_det: of the transforms, `(V,)`; read where rows are pixels.
    """

    def __init__(
        self,
        step_module: TrainingStep,
        rows: Forms,
        labels: Tensor,
        *,
        metric: str,
        seed: int,
        engine: Engine,
        pixels: int | None = None,
        log_det: Tensor | None = None,
    ) -> None:
        self.step_module = step_module
        self.rows = rows
        self.labels = labels
        self.has_labels = bool((labels >= 0).any())
        self.seed = derive_seed(seed, "monitor")
        self.engine = engine
        self.pixels = pixels
        self.log_det = log_det
        self.metric = metric if metric != "auto" else "val.accuracy" if self.has_labels else "monitor.loss"

    @torch.no_grad()
    def measure(self, teacher: FlowMixture) -> Reading:
        """Measure the teacher, with the same views each time."""
        generator = torch.Generator(self.labels.device).manual_seed(self.seed)
        views = self.step_module.views
        count, losses, agreeing = 0, 0.0, 0
        for part in iterate_batches(len(self.rows), chunk_rows(self.rows.x.shape[1])):
            rows = self.rows[part]
            batch = StepInput(labelled=rows[:0], labels=self.labels[:0], unlabelled=rows, step=0, epoch=_LATE)
            with self.engine.autocast():
                terms = self.step_module.losses(teacher, teacher, batch, generator)
                weak, strong = (views[name](rows, generator) for name in ("weak", "strong"))
                same = teacher(weak).class_log_prob.argmax(1) == teacher(strong).class_log_prob.argmax(1)
            count += len(rows)
            losses += len(rows) * float(torch.stack(list(terms.values())).sum())
            agreeing += int(same.sum())
        values = {"monitor.loss": losses / count, "monitor.agreement": agreeing / count}
        values |= self._density(teacher) | (self._labelled(teacher) if self.has_labels else {})
        return Reading(self.metric, values)

    def _density(self, teacher: FlowMixture) -> dict[str, float]:
        if self.pixels is None or self.log_det is None:
            return {}
        x = load_tensor(self.rows.x)
        parts = [teacher(x[part]).log_prob() for part in iterate_batches(len(x), chunk_rows(x.shape[1]))]
        log_prob = float((torch.cat(parts) + self.log_det.to(x)).mean())
        return {"monitor.bits_per_dim": bits_per_dim(-log_prob, self.pixels)}

    def _labelled(self, teacher: FlowMixture) -> dict[str, float]:
        seen = self.labels >= 0
        labels = self.labels[seen]
        x = self.rows.x[seen]
        chunks = iterate_batches(len(x), chunk_rows(x.shape[1]))
        parts = [teacher(x[part]).class_log_prob for part in chunks]
        log_prob = torch.cat(parts)
        tempered = log_prob / self.step_module.objective.temperature
        return {
            "val.accuracy": float((log_prob.argmax(1) == labels).double().mean()),
            "val.nll": float(F.cross_entropy(tempered, labels)),
        }

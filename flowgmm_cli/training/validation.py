"""Metrics of held-out rows after each epoch, and the one that is watched."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.data.splits import SplitData
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.seeds import derive_seed
from flowgmm_cli.trained_model import chunk_rows
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.step import TrainingStep

_HIGHER_IS_BETTER = {"val.accuracy", "monitor.agreement"}
_AFTER_RAMPS = 1e9  # an epoch in which every term has its full weight


def is_better(metric: str, value: float, other: float | None) -> bool:
    """Compare values of a metric; one that is not finite is never better, another one is better than None."""
    if other is None or not math.isfinite(value):
        return math.isfinite(value)
    return value > other if metric in _HIGHER_IS_BETTER else value < other


class Validator:
    """Measures a teacher on held-out rows.

    `monitor.*` uses no label: `monitor.loss` is the loss of unlabelled rows, `monitor.agreement` the share of
    rows with the same class under both views, `monitor.bits_per_dim` the bits of a pixel, for images.
    `val.*` needs held-out rows with labels.

    Args:
        rows: V held-out rows, on the device; their labels are -1 where they may not be used.
        recipe: has the watched metric; `auto` is `val.accuracy` with labels, `monitor.loss` without. Its seed
            fixes the views, the same after each epoch.
        pixels: number of pixels in a row; None if rows are not images.
        group: processes that train together; each measures a share of the rows.
    """

    def __init__(
        self,
        step_module: TrainingStep,
        rows: Tensors,
        recipe: Recipe,
        engine: Engine,
        *,
        pixels: int | None = None,
        group: Distributed | None = None,
    ) -> None:
        self.step_module, self.rows, self.engine, self.pixels = step_module, rows, engine, pixels
        self.group, self.seed = group or Distributed(), derive_seed(recipe.run.seed, "monitor")
        self.has_labels, metric = bool((rows.labels >= 0).any()), recipe.checkpoint.best.metric
        self.metric = metric if metric != "auto" else "val.accuracy" if self.has_labels else "monitor.loss"

    @torch.no_grad()
    def measure(self, teacher: FlowMixture) -> dict[str, float]:
        """Metrics by name, with the same views each time; all processes call this, with one result."""
        rank, device = self.group.rank, self.rows.labels.device
        seed = derive_seed(self.seed, "rank", rank) if rank else self.seed
        generator = torch.Generator(device).manual_seed(seed)
        index = self.group.shard(torch.arange(len(self.rows), device=device))
        sums: dict[str, float] = {}
        for part in iterate_batches(len(index), chunk_rows(self.rows.x.shape[1], teacher)):
            for name, value in self._sums(teacher, index[part], generator).items():
                sums[name] = sums.get(name, 0.0) + float(value)
        totals = torch.tensor(list(sums.values()), dtype=torch.float64)
        if self.group.world_size > 1:
            totals = self.group.all_reduce(totals.to(device))
        by_name = dict(zip(sums, totals.tolist(), strict=True))
        counts = {"monitor": by_name.pop("rows"), "val": by_name.pop("labelled", 0.0)}
        return {name: value / counts[name.split(".")[0]] for name, value in by_name.items()}

    def _sums(self, teacher: FlowMixture, index: Tensor, rng: torch.Generator) -> dict[str, Tensor | int]:
        """Sums over some rows, by the name of their mean."""
        rows = self.rows[index]
        with self.engine.autocast():
            terms = self.step_module(teacher, rows[:0], rows, rng, epoch=_AFTER_RAMPS, model=teacher)
            views = [self.step_module.views[name](rows, rng) for name in ("weak", "strong")]
            weak, strong = (teacher(view).class_log_prob.argmax(1) for view in views)
        sums: dict[str, Tensor | int] = {
            "rows": len(rows),
            "monitor.loss": len(rows) * torch.stack(list(terms.values())).sum(),
            "monitor.agreement": (weak == strong).sum(),
        }
        if self.pixels is not None:
            log_prob = teacher(rows.x).log_prob() + rows.log_det.to(index.device)
            sums["monitor.bits_per_dim"] = -log_prob.sum() / (self.pixels * math.log(2))
        if self.has_labels:
            labelled = rows.labels >= 0
            logits, labels = teacher(rows.x[labelled]).class_log_prob, rows.labels[labelled]
            sums["labelled"] = len(labels)
            sums["val.accuracy"] = (logits.argmax(1) == labels).sum()
            temperature = self.step_module.objective.temperature
            sums["val.nll"] = F.cross_entropy(logits / temperature, labels, reduction="sum")
        return sums


def require_held_out(recipe: Recipe, rows: SplitData) -> None:
    """Check before training that the rows and labels that the recipe watches or calibrates on are held out.

    Raises:
        RecipeError: they are not; names all settings that need them.
    """
    held_out = rows.val is not None
    labelled = rows.val is not None and bool((rows.val.labels >= 0).any())
    metric, calibration = recipe.checkpoint.best.metric, recipe.calibration
    problems = []
    if metric.startswith("val.") and not labelled:
        problems.append(f"checkpoint.best.metric  {metric} needs held-out rows with labels")
    elif metric != "auto" and not held_out:
        problems.append(f"checkpoint.best.metric  {metric} needs held-out rows")
    if recipe.train.early_stopping is not None and not held_out:
        problems.append("train.early_stopping  needs held-out rows")
    if calibration.method != "none" and calibration.on == "val" and not labelled:
        problems.append("calibration.on  val needs held-out rows with labels")
    if problems:
        message = "this run has no held-out rows"
        hint = "data.split.val=0.1 holds out a tenth of the training rows"
        if held_out:
            message = "this run has held-out rows, but may not see their labels"
            hint = "data.split.val_labels=true lets their labels be used; metric: auto and on: auto need none"
        raise RecipeError(message, details=problems, hint=hint)

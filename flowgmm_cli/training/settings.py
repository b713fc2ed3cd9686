"""What a training loop is told, and what it ends with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import CheckpointConfig, TrainConfig
from flowgmm_cli.training.checkpoint import Progress


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

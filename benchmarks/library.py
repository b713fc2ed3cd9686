"""flowgmm as a contender: the trainer of `flowgmm train` on random rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from shapes import CLIP_NORM, LEARNING_RATE, UNLABELLED_WEIGHT, Rows, Shape
from timing import Contender, repeat
from torch import Tensor

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.devices import Engine, allow_tf32, deterministic
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.load import parse_resolved
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.training.model_init import initialise_model
from flowgmm_cli.training.step import build_step
from flowgmm_cli.training.trainer import Trainer

Loss = Literal["likelihood", "default"]
Precision = Literal["fp32", "bf16"]

_BATCHES = 4  # unlabelled batches in memory
_PLAIN = {
    "objective": {"use": "joint", "labelled": 1.0, "unlabelled": UNLABELLED_WEIGHT, "per_dimension": False},
    "regularisers": [],
}
_VIEWS = {"strong": [{"use": "noise", "scale": 0.5}, {"use": "drop", "rate": 0.2}]}


def recipe_of(shape: Shape, loss: Loss, precision: Precision, words: tuple[str, ...] = ()) -> Recipe:
    """Build a recipe of this shape; `default` has the default losses with the views of the text recipes."""
    plain = loss == "likelihood"
    values: dict[str, Any] = {
        "version": 1,
        "name": "speed",
        # The recipe needs a source, but the trainer gets other rows.
        "data": {"use": "sklearn", "name": "two_moons", "views": {} if plain else _VIEWS},
        "flow": {"use": "realnvp", "couplings": shape.couplings, "hidden": shape.hidden},
        "train": {
            "epochs": 1_000_000,
            "batch_size": shape.batch,
            "labelled_batch_size": shape.labelled,
            "lr": LEARNING_RATE,
            "schedule": "constant",
            "clip_norm": CLIP_NORM,
            "precision": precision,
            **({"ema": 0.0} if plain else {}),
        },
        "run": {"device": "cpu", "log_every": 1_000_000},
        **(_PLAIN if plain else {}),
    }
    return parse_resolved(values, "benchmark", words)


@dataclass(frozen=True)
class Library:
    """One way of training with flowgmm.

    Args:
        shape: sizes of model and batch.
        rows: rows of one batch.
        loss: the plain likelihood, or the default losses of `flowgmm train`.
        precision: number format of the networks.
        words: overrides of the recipe.
        device: device of model and rows.
    """

    shape: Shape
    rows: Rows
    loss: Loss
    precision: Precision
    words: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def name(self) -> str:
        losses = "" if self.loss == "likelihood" else "default losses, "
        return f"flowgmm, {losses}{self.precision}"

    @property
    def engine(self) -> Engine:
        return Engine(self.device, self.precision)

    def model(self) -> FlowMixture:
        """The model before training."""
        recipe = recipe_of(self.shape, self.loss, self.precision, self.words)
        return initialise_model(
            recipe, self.rows.labelled, self.rows.labels, classes=self.shape.classes, seed=0
        ).requires_grad_()

    def steps(self) -> Contender:
        """Training steps: the time between the ends of two steps of the trainer."""
        recipe, rows = recipe_of(self.shape, self.loss, self.precision, self.words), self._training_rows()
        step = build_step(
            recipe,
            self.model().to(self.device),
            features=self.shape.features,
            labelled=self.shape.labelled,
            unlabelled=len(rows) - self.shape.labelled,
        )

        def turn(times: int, clock: Callable[[], float]) -> list[float]:
            ends: list[float] = []

            def on_step(step: int, steps: int, values: Mapping[str, Any]) -> None:
                ends.append(clock())

            train = recipe.train.model_copy(update={"max_steps": times + 2})
            timed = recipe.model_copy(update={"train": train})
            tf32 = allow_tf32(self.engine, recipe.train.tf32)
            with deterministic(recipe.run.deterministic), tf32:
                Trainer(step, rows, timed, self.engine, on_step=on_step).fit()
            # The first step sets up the state of the optimiser, and the last step writes the metrics.
            return [b - a for a, b in pairwise(ends[:-1])]

        return Contender(self.name, turn)

    def scores(self, x: Tensor) -> Contender:
        """Compute `log p(x)` of rows."""
        model, engine = self.model().to(self.device).eval(), self.engine

        @torch.no_grad()
        def score() -> None:
            with engine.autocast():
                model.log_prob(x)

        return repeat(self.name, score)

    def samples(self, n: int) -> Contender:
        """Draw new rows."""
        model, engine, generator = self.model().eval(), self.engine, torch.Generator().manual_seed(0)

        def sample() -> None:
            with engine.autocast():
                model.sample(n, generator)

        return repeat(self.name, sample)

    def _training_rows(self) -> Tensors:
        shape, rows = self.shape, self.rows
        x = torch.cat([rows.labelled, rows.unlabelled.repeat(_BATCHES, 1)])
        labels = torch.full((len(x),), -1)
        labels[: shape.labelled] = rows.labels
        return Tensors(x, labels).to(self.device)

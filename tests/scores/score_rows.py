"""Inputs of scores from a small model, and scores fitted to them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from flowgmm_cli.api import Component, Latents, Score, ScoreInputs
from flowgmm_cli.model import Model
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.scores.specs import SPECS
from flowgmm_cli.trained_model import score_inputs

PLAIN = SimpleNamespace(temperature=1.0)
"""A model for scores that need no other part of it."""


class Identity(torch.nn.Module):
    """A flow that leaves rows as they are, times `scale`."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.scale * x, torch.full((len(x),), x.shape[1] * float(np.log(self.scale)))

    def inverse(self, z: torch.Tensor) -> torch.Tensor:
        return z / self.scale


def make_inputs(model: Model, x: torch.Tensor, images: torch.Tensor | None = None) -> ScoreInputs:
    """Return the inputs of scores that a run would compute."""
    return score_inputs(model, x, torch.zeros(len(x)), images=images)


def inputs_from_logits(class_log_prob: list[list[float]]) -> ScoreInputs:
    """Return inputs whose class log-densities matter only."""
    log_joint = torch.tensor(class_log_prob, dtype=torch.float64)
    n = len(log_joint)
    latents = Latents(torch.zeros(n, 1), torch.zeros(n), log_joint)
    return ScoreInputs(torch.zeros(n, 1), latents, log_joint.log_softmax(1), log_joint.logsumexp(1))


def component(name: str, **values: Any) -> Component:
    """Return a score with parameters."""
    if name == "combined" and "of" not in values:
        values["of"] = [component("entropy"), component("latent_knn")]
    return Component(kind="score", use=name, config=SPECS[name].config(**values))


def fit_score(
    name: str, train: ScoreInputs, held_out: ScoreInputs | None = None, model: Any = PLAIN, **values: Any
) -> Score:
    """Fit a score."""
    score: Score = build(component(name, **values))
    score.fit(train, train if held_out is None else held_out, model, np.random.default_rng(0))
    return score

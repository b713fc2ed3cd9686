"""The share of wrong labels, estimated before training (`objective.label_noise: auto`)."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np

from flowgmm_cli.baselines.guide import build_method
from flowgmm_cli.data.tensors import Tensors, load_tensor
from flowgmm_cli.evaluation.label_errors import MAX_SHARE, suggest_classes
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.recipe.variants import vary
from flowgmm_cli.training.fit_job import TrainContext

_KEY = "objective.label_noise"


def label_noise(recipe: Recipe) -> float:
    """Share of wrong labels that the objective assumes; 0 for one without."""
    share = getattr(recipe.objective.config, "label_noise", 0.0)
    return 0.0 if share == "auto" else float(share)


def resolve_label_noise(context: TrainContext) -> TrainContext:
    """Put an estimate in the place of `objective.label_noise: auto`, the same in each process."""
    recipe, data = context.recipe, context.data
    if getattr(recipe.objective.config, "label_noise", None) != "auto":
        return context
    share = estimate_label_noise(data.train, classes=data.classes, seed=recipe.run.seed)
    share = float(context.group.broadcast_text(repr(share)))
    context.callbacks.note(f"labels  about {share:.0%} of them look wrong (objective.label_noise: auto)")
    return replace(context, recipe=vary(recipe, {_KEY: share}))


def estimate_label_noise(rows: Tensors, *, classes: int, seed: int) -> float:
    """Estimate the share of wrong labels: those that look wrong to cross-validated logistic regression.

    It takes a second, and with a share of 20 % it is off by a few percent, see `suggest_classes`; 0 if
    cross-validation is impossible.
    """
    certain = rows.labels >= 0
    if rows.targets is not None:
        certain &= ~rows.targets.any(1)
    labelled = rows[certain.nonzero().flatten()]
    x, labels = load_tensor(labelled.x).numpy(), labelled.labels.numpy()
    if len(np.unique(labels)) < 2:
        return 0.0
    method = build_method("logistic_regression", classes, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence
        method.fit(x, labels)
    if (held_out := method.data.predict_held_out()) is None:
        return 0.0
    index, p = held_out
    return min(float((suggest_classes(p, labels[index]) >= 0).mean()), MAX_SHARE)

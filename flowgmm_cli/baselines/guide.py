"""The guide: class probabilities of the training rows by simple methods, targets of the term `guide`.

The methods are fitted to the visible labels, and their log-probabilities are averaged. Weights and settings
of the methods come from cross-validation on these labels: the guide of a fold has not seen its labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.api import Component
from flowgmm_cli.data.array_types import FloatArray, Floats
from flowgmm_cli.data.tensors import Tensors, load_tensor
from flowgmm_cli.evaluation.folds import Labels
from flowgmm_cli.formatting import method_name
from flowgmm_cli.plugins.registry import registry
from flowgmm_cli.recipe.schema import Recipe
from flowgmm_cli.regularisers.specs import GuideConfig

# the other baselines take most of the time and add little to these
METHODS = ("logistic_regression", "knn", "self_training", "extra_trees", "lda", "svm")
_SMALLEST = 1e-3  # probability: a method that is sure and wrong does not decide alone
_PRIOR_LABELS = 4.0  # labels that speak for equal weights: few labels hardly tell which method is best
_STEPS = 200  # of expectation-maximisation, towards the only optimum
_MAX_CELLS = 2**26  # rows * classes of a table of probabilities


class Guide:
    """Simple methods that are fitted to the labels of a run when a training first uses them.

    Args:
        rows: all training rows in memory, with their visible labels.
        held_out: validation rows, whose loss chooses the epoch; their labels are not read.
        classes: K.
        seed: of folds and trees.
        note: receives the weights of the methods.
    """

    def __init__(
        self,
        rows: Tensors,
        held_out: Tensors | None = None,
        *,
        classes: int,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self.rows, self.held_out = rows, held_out
        self.classes, self.seed, self.note = classes, seed, note
        self.methods: dict[str, Any] = {}
        self._targets: dict[bytes, Tensor] = {}

    def attach(self, visible: Labels) -> tuple[Tensors, Tensors | None]:
        """Return the training rows and the validation rows with their targets, where there are any."""
        targets, count, held_out = self.targets(visible), len(self.rows), self.held_out
        if targets is None:
            return self.rows, held_out
        if held_out is not None:
            held_out = replace(held_out, guide=targets[count:])
        return replace(self.rows, guide=targets[:count]), held_out

    def targets(self, visible: Labels) -> Tensor | None:
        """Class probabilities of all N rows, validation rows last, after a fit to some labels, `(N, K)`.

        None with labels of a single class, for rows on the disk, and for very many rows and classes.
        """
        rows = self.rows
        is_large = rows.store is not None or not isinstance(rows.x, Tensor)
        if is_large or len(rows) * self.classes > _MAX_CELLS or len(np.unique(visible[visible >= 0])) < 2:
            return None
        key = visible.tobytes()
        if key not in self._targets:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of convergence
                self._targets[key] = self._fit(rows.x.numpy(), rows.labels.numpy(), visible)
        return self._targets[key]

    def _fit(self, x: FloatArray, labels: Labels, visible: Labels) -> Tensor:
        if not self.methods:
            self.methods = {name: build_method(name, self.classes, self.seed) for name in METHODS}
            for method in self.methods.values():
                method.fit(x, labels)
        rows = x if self.held_out is None else np.concatenate([x, load_tensor(self.held_out.x).numpy()])
        hidden = np.flatnonzero((labels >= 0) & (visible < 0))
        log_probabilities, held_out = [], []
        for method in self.methods.values():
            settings = method.settings_without(hidden)
            held_out.append(method.data.true_probabilities(hidden))
            method.fit(x, visible, settings)
            log_probabilities.append(np.log(np.maximum(method.predict_proba(rows), _SMALLEST)))
        weights = stack_weights(np.array(held_out))
        if not len(hidden):
            shares = zip(weights, self.methods, strict=True)
            text = ", ".join(
                f"{method_name(name)} {share:.0%}" for share, name in sorted(shares, reverse=True)
            )
            self.note(f"guide   {text}")
        log_p = np.tensordot(weights, np.array(log_probabilities), 1)
        return torch.softmax(torch.from_numpy(log_p), dim=1).float()


def uses_guide(recipe: Recipe) -> bool:
    """Return True if a term of the loss needs the guide."""
    return any(isinstance(term.config, GuideConfig) for term in recipe.regularisers)


def build_method(name: str, classes: int, seed: int) -> Any:
    """Build a baseline with its default settings."""
    entry = registry().find("baseline", name)
    component = Component(kind="baseline", use=name, config=entry.spec().config())
    return registry().build(component, classes=classes, seed=seed)


def stack_weights(probabilities: Floats) -> Floats:
    """Return weights of methods `(M,)`, with sum 1, under which a mixture of them gives the labels.

    `probabilities` of the true classes are `(M, n)`; n may be 0.

    >>> stack_weights(np.array([[0.9] * 300, [0.5] * 300])).round(2)
    array([0.99, 0.01])
    """
    p = np.maximum(probabilities, _SMALLEST)
    weights = np.full(len(p), 1 / len(p))
    for _ in range(_STEPS):
        shares = weights[:, None] * p
        weights = (shares / shares.sum(0)).sum(1) + _PRIOR_LABELS / len(p)
        weights /= weights.sum()
    return weights

"""Scores of the labelled rows' inputs alone: `label_posterior`, `label_distance` and `label_angle`.

They use neither the flow nor unlabelled rows. Where unlabelled rows of an unknown kind taught the model that
these rows are usual, only these scores still detect the kind.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Floats, IntArray
from flowgmm_cli.scores.base import TensorScore, nearest_distance, to_numpy, to_unit_length
from flowgmm_cli.scores.posterior import MaxPosterior
from flowgmm_cli.scores.specs import LabelDistanceConfig

_MAX_PRODUCTS = 3e8  # rows * classes * features of a logistic regression that takes some seconds
_FOLDS = 5


def inputs_of_labels(train: ScoreInputs) -> tuple[Floats, IntArray, int]:
    """Return inputs of labelled rows `(L, D)`, their classes `(L,)` and the number of classes with a row.

    Classes are numbered anew. Without labels the rows have the classes that the model predicts.
    """
    x, labels = train.labelled or (train.x, train.log_posterior.argmax(1))
    present, classes = np.unique(labels.cpu().numpy(), return_inverse=True)
    return np.nan_to_num(to_numpy(x)), classes, len(present)


def average_by_class(x: Floats, classes: IntArray, count: int) -> Floats:
    """Return the means of the classes `(K, D)`."""
    means = np.zeros((count, x.shape[1]))
    np.add.at(means, classes, x)
    return np.asarray(means / np.bincount(classes, minlength=count)[:, None])


class LabelPosterior(MaxPosterior):
    r""":math:`\log \frac{1 - p}{p}`, p the largest posterior of logistic regression; higher = less certain.

    The regression sees the inputs of the labelled rows. With very many rows, classes and features its
    weights are those of Gaussians around the class means that share one variance.
    """

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit the regression."""
        x, classes, count = inputs_of_labels(train)
        if count > 1 and count * x.size <= _MAX_PRODUCTS:
            from flowgmm_cli.mixture.clusters import fit_logistic

            weights, bias = fit_logistic(x, classes)
        else:
            means = average_by_class(x, classes, count)
            variance = float(((x - means[classes]) ** 2).mean()) or float(x.var()) or 1.0
            weights, bias = means / variance, -(means**2).sum(1) / (2 * variance)
        self.fitted = {"temperature": np.ones(()), "weights": weights, "bias": bias}

    def log_joint(self, rows: ScoreInputs) -> Tensor:
        """Return the logits `(N, K)`."""
        return rows.x.double() @ self.constant("weights").T + self.constant("bias")


class LabelDistance(TensorScore):
    """Distance to the nearest class mean of the labelled rows in the input space; higher = further out.

    With the scale `unit` rows and means have length 1, so that only their directions count.
    """

    config: LabelDistanceConfig

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Compute the means."""
        x, classes, count = inputs_of_labels(train)
        means = average_by_class(self._scale(torch.from_numpy(x)).numpy(), classes, count)
        self.fitted = {"means": self._scale(torch.from_numpy(means)).numpy()}

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`."""
        return nearest_distance(self._scale(rows.x.double()), self.constant("means"))

    def _scale(self, values: Tensor) -> Tensor:
        return to_unit_length(values) if self.config.scale == "unit" else values


def angles_to_means(train: ScoreInputs, unlabelled: Tensor, generator: Generator) -> tuple[Floats, Floats]:
    """Compute the score `label_angle` of labelled rows, held out in folds, and of other inputs `(U, D)`.

    Returns:
        `(L,)` and `(U,)`.
    """
    x, classes, _ = inputs_of_labels(train)
    unit, others = to_unit_length(torch.from_numpy(x)), to_unit_length(unlabelled.double())
    order = generator.permutation(len(x))
    order = order[np.argsort(classes[order], kind="stable")]  # folds have equal shares of each class
    own, total = np.empty(len(x)), np.zeros(len(others))
    for fold in range(_FOLDS):
        held_out = np.zeros(len(x), dtype=bool)
        held_out[order[fold::_FOLDS]] = True
        _, present = np.unique(classes[~held_out], return_inverse=True)
        means = average_by_class(unit.numpy()[~held_out], present, int(present.max()) + 1)
        centres = to_unit_length(torch.from_numpy(means))
        own[held_out] = nearest_distance(unit[held_out], centres)
        total += nearest_distance(others, centres).numpy()
    return own, total / _FOLDS

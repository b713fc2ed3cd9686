"""Scores of distance to the nearest training rows: `input_knn`, `angle_knn` and `latent_knn`."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.scores.base import TensorScore, to_numpy, to_unit_length
from flowgmm_cli.scores.specs import KnnConfig

_MAX_VALUES = 4_000_000  # numbers stored of the references: 16 MB
_MAX_COORDINATE = 1e15  # the square of a larger number, times a reference, might overflow float32


class NearestRows(TensorScore):
    r"""Mean distance to the k nearest of the stored training rows, or distance to the k-th.

    .. math:: \frac{1}{k} \textstyle\sum_{i \le k} |v - v_{(i)}|

    (Sun et al., 2022, "Out-of-distribution detection with deep nearest neighbors", take the k-th distance.)
    Matrix products in float32 find the nearest rows; the distances to these few are then computed from
    differences in float64, so a score does not depend on the other rows of a batch. scikit-learn's search
    would need an import of half a second for each prediction.
    """

    config: KnnConfig

    @abstractmethod
    def vectors(self, rows: ScoreInputs) -> Tensor:
        """Return the vectors between which distances are measured, `(N, D)`."""

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Store a sample of the training rows, labelled or not, without those that have infinite numbers."""
        rows = self.vectors(train)
        usable = np.flatnonzero(rows.isfinite().all(dim=1).numpy())
        usable = usable if len(usable) else np.arange(len(rows))
        limit = max(1, min(self.config.rows, _MAX_VALUES // max(1, rows.shape[1])))
        if len(usable) > limit:
            usable = np.sort(generator.choice(usable, limit, replace=False))
        sample = np.nan_to_num(to_numpy(rows[torch.from_numpy(usable)]))
        # rows are centred, since a common offset would cost digits in float32
        centre, scale = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.config.scale != "unit":
            centre = sample.mean(axis=0)
        if self.config.scale == "standardise":
            deviation = sample.std(axis=0)
            scale = np.where(deviation > 0, deviation, 1.0)
        self.fitted = {"centre": centre.astype(np.float32), "scale": scale.astype(np.float32)}
        self.fitted["rows"] = self._scale(torch.from_numpy(sample)).float().numpy()

    def compute(self, rows: ScoreInputs) -> Tensor:
        """Return `(N,)`, in the unit of the scaled features."""
        vectors, references = self._scale(self.vectors(rows).double()), torch.from_numpy(self.fitted["rows"])
        clipped = vectors.nan_to_num().clamp(-_MAX_COORDINATE, _MAX_COORDINATE).float()
        # |x - r|^2 / 2 without |x|^2, which is the same for all r
        order = torch.addmm(references.square().sum(1) / 2, clipped, references.T, alpha=-1)
        nearest = order.topk(min(self.config.k, len(references)), dim=1, largest=False).indices
        # one neighbour at a time, to save memory
        squares = [(vectors - references[column].double()).square().sum(1) for column in nearest.unbind(1)]
        distance = torch.stack(squares, dim=1).sqrt()
        return distance.mean(1) if self.config.distance == "mean" else distance.amax(1)

    def _scale(self, values: Tensor) -> Tensor:
        if self.config.scale == "unit":
            return to_unit_length(values)
        return (values - self.constant("centre")) / self.constant("scale")


class InputKnn(NearestRows):
    """Distance to the nearest training rows in the flow's input space; higher = further out.

    Features have the scale of the recipe's transforms, the flow's own, unless `scale` changes it. The score
    does not use the model.
    """

    def vectors(self, rows: ScoreInputs) -> Tensor:
        """Return the input of the flow."""
        return rows.x


class LatentKnn(NearestRows):
    """Distance to the nearest training rows in the latent space; higher = further out.

    The latent space has the unit of the mixture, whose components have a standard deviation near 1, so by
    default features are not scaled.
    """

    def vectors(self, rows: ScoreInputs) -> Tensor:
        """Return the latents."""
        return rows.latents.z

"""Base classes of the scores: a state of arrays, tensor operations, and finite results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import Score, ScoreInputs, iterate_batches
from flowgmm_cli.data.array_types import Array, Floats, IntArray

State = tuple[dict[str, Any], dict[str, Array]]

FAR = 3e38
"""Replaces infinite scores and NaN: as far out as float32 can say."""
MAX_REFERENCE = 4000  # scores of held-out rows that are stored for each score
_BATCH_ROWS = 512  # rows whose temporary arrays are in memory at a time


def to_finite(values: Array) -> Floats:
    """Convert scores to float64, all finite.

    A row so far out that numbers overflow, or cancel to NaN, counts as further out than any other.

    >>> to_finite(np.array([1.0, np.nan, -np.inf]))
    array([ 1.e+00,  3.e+38, -3.e+38])
    """
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=FAR, posinf=FAR, neginf=-FAR), -FAR, FAR)


def to_numpy(values: Tensor) -> Floats:
    """Convert a tensor to a float64 array."""
    array: Floats = values.detach().cpu().double().numpy()
    return array


def thin(values: Floats) -> Floats:
    """Return values in ascending order, at most 4,000 of them, evenly spaced by rank."""
    values = np.sort(values)
    if len(values) > MAX_REFERENCE:
        values = values[np.linspace(0, len(values) - 1, MAX_REFERENCE).round().astype(np.intp)]
    return values


def to_unit_length(values: Tensor) -> Tensor:
    """Divide rows `(N, D)` by their lengths; rows of zeros stay."""
    length = values.square().sum(1, keepdim=True).sqrt()
    return values / torch.where(length > 0, length, 1.0)


def nearest_distance(rows: Tensor, points: Tensor) -> Tensor:
    """Compute the distance of rows `(N, D)` to the nearest of the points `(K, D)`, `(N,)`."""
    squares = rows.square().sum(1)[:, None] - 2 * rows @ points.T + points.square().sum(1)
    return squares.amin(1).clamp(min=0).sqrt()


def take_rows(rows: ScoreInputs, index: IntArray | slice) -> ScoreInputs:
    """Return some of the rows, by position."""
    positions = index if isinstance(index, slice) else torch.from_numpy(index)
    return ScoreInputs(
        rows.x[positions],
        rows.latents.rows(positions),
        rows.log_posterior[positions],
        rows.log_density[positions],
        None if rows.images is None else rows.images[positions],
        rows.labelled,
    )


class ArrayScore:
    """A score whose state consists of arrays, `fitted`, which `fit` sets by name."""

    def __init__(self, config: Any = None) -> None:
        self.config = config
        self.fitted: dict[str, Array] = {}

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Do nothing: not every score needs a fit."""

    def state(self) -> State:
        """See `flowgmm_cli.api.Score`."""
        return {}, dict(self.fitted)

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See `flowgmm_cli.api.Score`."""
        self.fitted = dict(arrays)


class TensorScore(ArrayScore, ABC):
    """A score made of tensor operations, which the graph of an exported model can hold."""

    @abstractmethod
    def compute(self, rows: ScoreInputs) -> Tensor:
        """Compute the score in float64, `(N,)`; it need not be finite."""

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in chunks of rows."""
        chunks = (take_rows(rows, part) for part in iterate_batches(len(rows), _BATCH_ROWS))
        return np.concatenate([np.empty(0), *(to_numpy(score_tensor(self, chunk)) for chunk in chunks)])

    def constant(self, name: str) -> Tensor:
        """Return a fitted array in float64."""
        return torch.from_numpy(self.fitted[name]).double()


def score_tensor(score: Score, rows: ScoreInputs) -> Tensor:
    """Compute a score of rows as a tensor `(N,)`, all finite as by `to_finite`."""
    values = score.compute(rows) if isinstance(score, TensorScore) else torch.from_numpy(score(rows))
    return values.nan_to_num(FAR, FAR, -FAR).clamp(-FAR, FAR)

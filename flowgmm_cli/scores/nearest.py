"""Distances to the nearest of some stored rows, in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.scores.specs import KnnConfig
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite

_CHUNK = 512  # rows whose distances to all references are held at once
_GROUP = 64  # references among which one is found to be nearest before any are sorted
_VALUES = 4_000_000  # numbers kept of the references: 16 MB
_LARGEST = 1e15  # the square of a larger number, times a reference, might leave float32


class NearestRows(FittedArrays):
    """Mean distance to the k nearest of the stored rows, or distance to the k-th.

    Which rows are nearest is found by matrix products in float32; the distances to these few are then
    computed from differences in float64, so a score does not depend on the rows that were scored beside it.

    Args:
        config: k, what is taken of the k distances, the scale of features, number of rows kept.
    """

    def __init__(self, config: KnnConfig) -> None:
        super().__init__()
        self.config = config

    def keep(self, rows: Tensor, generator: np.random.Generator) -> None:
        """Store some of the rows `(N, D)`, as float32; those with infinite numbers are left out."""
        usable = np.flatnonzero(rows.isfinite().all(dim=1).numpy())
        usable = usable if len(usable) else np.arange(len(rows))
        most = max(1, min(self.config.rows, _VALUES // max(1, rows.shape[1])))
        if len(usable) > most:
            usable = np.sort(generator.choice(usable, most, replace=False))
        kept = np.nan_to_num(array(rows[torch.from_numpy(usable)]))
        # Everything is seen from the middle of the rows: a common offset would cost digits below.
        centre, scale = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        if self.config.scale != "unit":
            centre = kept.mean(axis=0)
        if self.config.scale == "standardise":
            deviation = kept.std(axis=0)
            scale = np.where(deviation > 0, deviation, 1.0)
        self.fitted = {"centre": centre.astype(np.float32), "scale": scale.astype(np.float32)}
        self.fitted["rows"] = self._scaled(kept).astype(np.float32)

    def distances(self, rows: Tensor) -> Floats:
        """Scores of rows `(N, D)`: `(N,)`, in the unit of the scaled features."""
        references = torch.from_numpy(np.ascontiguousarray(self.fitted["rows"], np.float32))
        halves = references.square().sum(dim=1) / 2
        k, missing = min(self.config.k, len(references)), -len(references) % _GROUP
        padded = torch.nn.functional.pad(references, (0, 0, 0, missing)).T
        halves = torch.nn.functional.pad(halves, (0, missing), value=math.inf)
        exact = array(references)
        found = np.empty(len(rows))
        for batch in iterate_batches(len(rows), _CHUNK):
            values = self._scaled(array(rows[batch]))
            safe = np.clip(np.nan_to_num(values), -_LARGEST, _LARGEST).astype(np.float32)
            # |x - r|^2 / 2 without |x|^2, which is the same for all r
            order = torch.addmm(halves, torch.from_numpy(safe), padded, alpha=-1)
            with np.errstate(over="ignore", invalid="ignore"):
                found[batch] = self._distance(values, exact, _smallest(order, k).numpy())
        return finite(found)

    def _distance(self, values: Floats, exact: Floats, index: npt.NDArray[Any]) -> Floats:
        nearest = np.empty(index.shape)
        for place in range(index.shape[1]):  # one neighbour at a time, for the memory's sake
            nearest[:, place] = np.linalg.norm(values - exact[index[:, place]], axis=1)
        found: Floats = nearest.mean(axis=1) if self.config.distance == "mean" else nearest.max(axis=1)
        return found

    def _scaled(self, values: Floats) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            if self.config.scale == "unit":
                length = np.linalg.norm(values, axis=1, keepdims=True)
                return values / np.where(length > 0, length, 1.0)
            scaled: Floats = (values - self.fitted["centre"]) / self.fitted["scale"]
            return scaled


def _smallest(values: Tensor, k: int) -> Tensor:
    """Positions of the k smallest values of each row, `(N, k)`; rows are a multiple of the group long.

    They lie in the k groups with the smallest minima, so only these are looked through.
    """
    groups = values.reshape(len(values), -1, _GROUP)
    if groups.shape[1] <= k:
        return values.topk(k, dim=1, largest=False).indices
    nearest = groups.amin(dim=2).topk(k, dim=1, largest=False).indices
    chosen = groups.gather(1, nearest[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    place = chosen.topk(k, dim=1, largest=False).indices
    return nearest.gather(1, place // _GROUP) * _GROUP + place % _GROUP

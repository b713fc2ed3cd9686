"""What all scores share: finite numbers, and fitted arrays that are saved and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flowgmm_cli.api import Latents, ScoreInputs

Floats = npt.NDArray[np.float64]

FAR = 3e38
"""What stands for an infinite score, and for one that is not a number: as far out as float32 can say."""


def finite(values: npt.NDArray[Any]) -> Floats:
    """Scores as float64, all finite.

    A row that is so far out that numbers overflow, or cancel to NaN, is further out than any other.

    >>> finite(np.array([1.0, np.nan, -np.inf]))
    array([ 1.e+00,  3.e+38, -3.e+38])
    """
    return np.clip(np.nan_to_num(np.asarray(values, np.float64), nan=FAR, posinf=FAR, neginf=-FAR), -FAR, FAR)


def array(values: Tensor) -> Floats:
    """A tensor as float64."""
    found: Floats = values.detach().cpu().double().numpy()
    return found


def rows_of(rows: ScoreInputs, index: npt.NDArray[np.integer[Any]]) -> ScoreInputs:
    """Some of the rows, by position."""
    chosen, latents = torch.from_numpy(index), rows.latents
    return ScoreInputs(
        rows.x[chosen],
        Latents(latents.z[chosen], latents.log_det[chosen], latents.class_log_prob[chosen]),
        rows.log_posterior[chosen],
        rows.log_density[chosen],
        None if rows.images is None else rows.images[chosen],
    )


class FittedArrays:
    """A score whose fitted values are arrays, by name.

    Attributes:
        fitted: what `fit` found; empty before.
    """

    def __init__(self) -> None:
        self.fitted: dict[str, npt.NDArray[Any]] = {}

    def state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """See `flowgmm_cli.api.Score`."""
        return {}, dict(self.fitted)

    def load_state(self, values: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `flowgmm_cli.api.Score`."""
        self.fitted = dict(arrays)

"""The tempered posterior, kept in a form that does not saturate."""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgmm_cli.api import Latents
from flowgmm_cli.scores.values import Floats, array


def temperature_of(model: Any) -> Floats:
    """The divisor of class log-probabilities that calibration found, `()`."""
    value = getattr(model, "temperature", None)
    return np.asarray(1.0 if value is None else float(value))


def gaps(latents: Latents, temperature: float) -> Floats:
    r"""How far each class is behind the most probable one: :math:`(\max_j l_j - l_k) / T`, `(N, K)`.

    The posterior is the softmax of the negative gaps, and at least one gap of a row is 0. Of a row whose
    densities are not numbers all are 0: nothing is known of its class.

    The share of labels that calibration takes for random is left out. It is the same for all rows: it would
    only drown what tells sure rows apart, and hardly changes their order.
    """
    log_joint = array(latents.class_log_prob)
    with np.errstate(invalid="ignore"):
        behind: Floats = (log_joint.max(axis=1, keepdims=True) - log_joint) / temperature
    behind[np.isnan(behind).any(axis=1)] = 0.0
    return behind

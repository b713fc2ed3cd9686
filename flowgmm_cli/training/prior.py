"""Class weights estimated while training."""

from __future__ import annotations

import torch

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.mixture.weights import estimate_weights
from flowgmm_cli.model import FlowGMM
from flowgmm_cli.training.sampler import TrainingRows

_ROWS = 20_000  # enough for weights to a third of a percent
_CHUNK = 4096


@torch.no_grad()
def estimate_class_prior(model: FlowGMM, teacher: FlowGMM, rows: TrainingRows, temperature: float) -> None:
    """Set both models' class weights to those under which the teacher finds the training rows most likely.

    The tempered densities given the class are used, for raw ones count every row as wholly of one class.
    """
    if not len(rows.pool):
        return
    x = rows.x[rows.pool[:: -(-len(rows.pool) // _ROWS)]]  # of a file sorted by class, some of each class
    tempered = [
        teacher.mixture.conditional_log_prob(teacher.flow(x[part])[0]) / temperature
        for part in iterate_batches(len(x), _CHUNK)
    ]
    start = torch.full((teacher.mixture.classes,), 1 / teacher.mixture.classes, dtype=torch.float64)
    weights = estimate_weights(torch.cat(tempered).cpu(), start)
    for one in (model, teacher):
        raw = one.mixture.raw_log_weights
        one.mixture.set_weights(weights.to(raw.dtype).to(raw.device))  # not every device has float64

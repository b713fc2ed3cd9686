"""Activation normalisation (Kingma and Dhariwal, 2018, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from flowgmm_cli.flows.layers.affine import ElementwiseAffine


class ActNorm(ElementwiseAffine):
    """A learned scale and shift per feature or channel that start by standardising a first batch.

    `initialise` is a call of its own, so that `forward` never changes the module (and can be compiled). That
    it has happened is a buffer: a loaded model is not initialised a second time.
    """

    initialised: Tensor

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.register_buffer("initialised", torch.tensor(False))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set scale and shift so that the rows `x` `(batch, features)` get mean 0 and standard deviation 1.

        Of images it is each channel of `(batch, channels, height, width)`, over rows and places. A feature
        that is constant in `x` is only centred. Without rows, or the second time, nothing happens.
        """
        if self.initialised or not len(x):
            return
        wide = x.cpu().double()  # once in a run; not every device has float64
        others = [0, *range(2, x.dim())]
        mean = wide.mean(others)
        std = wide.std(others, correction=0)
        # Rounding leaves a constant feature with a tiny spread; dividing by that would be nonsense.
        constant = std <= 1e-6 * mean.abs().clamp(min=1e-6)
        scale = torch.where(constant, torch.ones_like(std), std)
        self.log_scale.copy_(-scale.log())
        self.shift.copy_(mean)
        self.initialised.fill_(True)

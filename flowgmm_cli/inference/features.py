r"""Effect of a channel of a layer: rows with the channel changed, by the inverse of the layers before it.

.. math:: x(\alpha) = f_{1:l}^{-1}\big(f_{1:l}(x) + \alpha \, \sigma_c \, \delta\big)

with the standard deviation :math:`\sigma_c` of channel c over rows and positions, and :math:`\delta` a
position, a bump around it, or the whole channel. Unlike a classifier, a flow needs no optimisation for this:
its layers are invertible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.data.array_types import Array
from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference.layers import Step, list_steps
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.trained_model import TrainedModel

Extent = Literal["bump", "channel", "site"]
_BUMP = 6.0  # the longer side divided by a bump's standard deviation


class FlowLayers:
    """Layers of a model's flow; the first member's of an ensemble.

    Attributes:
        steps: layer 0, the flow's input, then the steps of the flow. A shape is that of the output:
            `(channels, height, width)`, or `(D,)` of a vector, whose entries are its channels.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        width = trained.preprocessor.dim
        self._device = trained.model.temperature.device
        # in the range of pixels; other flows take any numbers
        rows = torch.rand(2, width, generator=torch.Generator().manual_seed(0)).to(self._device)
        steps = list_steps(trained.model.parts[0].flow, rows, "flow")
        of_images = any(step.shape for step in steps)
        first = Step("input", Sequential(), shape=trained.preprocessor.shape if of_images else (width,))
        self.steps = [first, *(replace(step, shape=step.shape or (width,)) for step in steps)]

    def __getitem__(self, number: int) -> Step:
        """Return a layer. Raises `UsageError` for an unknown number."""
        if not 0 <= number < len(self.steps):
            raise UsageError(
                f"--layer is {number}, and the flow has the layers 0 to {len(self.steps) - 1}",
                hint="`flowgmm features` lists them",
            )
        return self.steps[number]

    @torch.no_grad()
    def forward(self, x: Tensor, number: int) -> Tensor:
        """Compute a layer of rows `(N, D)`; the result `(N, D)` includes factored-out numbers."""
        x = x.to(self._device)
        for step in self.steps[: number + 1]:
            x, _ = step.module(x)
        return x

    @torch.no_grad()
    def inverse(self, state: Tensor, number: int) -> Tensor:
        """Invert `forward`."""
        for step in reversed(self.steps[: number + 1]):
            state = step.module.inverse(state)
        return state


def perturb_channel(
    layers: FlowLayers,
    x: Tensor,
    number: int,
    channel: int | None,
    amounts: Sequence[float],
    *,
    reference: Tensor,
    extent: Extent = "bump",
    site: tuple[int, int] | None = None,
    ids: Array | None = None,
) -> tuple[GeneratedRows, int, float]:
    """Change one channel of layer `number`, by default that of the largest standard deviation.

    `x` are the flow's inputs of the rows to change, `(N, D)`, with names `ids`. `amounts` are alpha, in
    standard deviations of the channel over the rows `reference`, `(M, D)`, at least 2. `extent` is the shape
    of delta, and `site` its row and column in the layer, by default the middle.

    Returns:
        For each row one of each amount (column `amount`), the channel, and its standard deviation.

    Raises:
        RunFailedError: an inverse is not finite.
        UsageError: there is no such layer, channel or site.
    """
    shape = layers[number].shape
    numbers = math.prod(shape)
    states = layers.forward(reference, number)[:, :numbers].reshape(-1, *shape)
    deviations = states.transpose(0, 1).flatten(1).std(1)
    channel = int(deviations.argmax()) if channel is None else channel
    if not 0 <= channel < shape[0]:
        raise UsageError(
            f"--channel is {channel}, and layer {number} has the channels 0 to {shape[0] - 1}",
            hint="`flowgmm features` lists layers with their shapes",
        )
    state = layers.forward(x, number)
    direction = state.new_zeros(state.shape[1])
    mask = perturbation_mask(shape, extent, site).to(direction)
    direction[:numbers].view(shape)[channel] = mask * deviations[channel]
    alpha = torch.tensor(list(amounts)).to(state)
    moved = state[:, None] + alpha[None, :, None] * direction
    names = range(1, len(x) + 1) if ids is None else ids
    rows = GeneratedRows.from_flow_inputs(
        layers.trained,
        layers.inverse(moved.flatten(0, 1), number),
        ids=np.repeat(names, len(amounts)),
        amount=np.tile(np.asarray(amounts, dtype=np.float64), len(x)),
    )
    return rows, channel, float(deviations[channel])


def perturbation_mask(shape: tuple[int, ...], extent: Extent, site: tuple[int, int] | None = None) -> Tensor:
    """Return delta for a channel: `(height, width)` with 1 at the site, or a scalar for vectors.

    >>> perturbation_mask((2, 3, 3), "site", (0, 2)).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if len(shape) == 1:
        return torch.ones(())
    height, width = shape[1:]
    row, column = site if site is not None else (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise UsageError(
            f"--at {row},{column} lies outside of the layer, which is {height} x {width}",
            hint=f"--at {height // 2},{width // 2} is its middle",
        )
    if extent == "channel":
        return torch.ones(height, width)
    y, x = torch.arange(height) - row, torch.arange(width) - column
    if extent == "site":
        return ((y[:, None] == 0) & (x[None, :] == 0)).float()
    size = max(height, width) / _BUMP
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * size**2))

r"""Effect of a channel of a layer: rows with the channel changed, by the inverse of the layers before it.

.. math:: x(\alpha) = f_{1:l}^{-1}\big(f_{1:l}(x) + \alpha \, \sigma_c \, \delta\big)

with the standard deviation :math:`\sigma_c` of channel c over rows and positions, and :math:`\delta` a
position, a bump around it, or the whole channel. Unlike a classifier, a flow needs no optimisation for this:
its layers are invertible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference.layers import Step, list_steps
from flowgmm_cli.inference.samples import GeneratedRows
from flowgmm_cli.trained_model import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

Extent = Literal["bump", "channel", "site"]
_BUMP = 6.0  # the longer side divided by a bump's standard deviation


@dataclass(frozen=True)
class Layer:
    """Output of the first `number` steps of a flow; 0 is the flow's input, the last one the latent.

    `name` is that of the last step. `shape` is `(channels, height, width)`, or `(D,)` of a vector, whose
    entries are its channels. `factored` numbers of a row were factored out before and never change again.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    factored: int = 0


class FlowLayers:
    """Layers of a model's flow; the first member's of an ensemble."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        width = trained.preprocessor.dim
        self._device = trained.model.temperature.device
        # in the range of pixels; other flows take any numbers
        rows = torch.rand(2, width, generator=torch.Generator().manual_seed(0)).to(self._device)
        self.steps: list[Step] = list_steps(trained.model.parts[0].flow, rows, "flow")
        has_images = any(step.shape for step in self.steps)
        self.layers = [Layer(0, "input", trained.preprocessor.shape if has_images else (width,))]
        for number, step in enumerate(self.steps, 1):
            shape = step.shape or (width,)
            self.layers.append(Layer(number, step.name, shape, width - math.prod(shape)))

    def get(self, number: int) -> Layer:
        """Return a layer by number. Raises `UsageError` for an unknown number."""
        if not 0 <= number < len(self.layers):
            raise UsageError(
                f"--layer is {number}, and the flow has the layers 0 to {len(self.layers) - 1}",
                hint="`flowgmm features` lists them",
            )
        return self.layers[number]

    @torch.no_grad()
    def forward(self, x: Tensor, number: int) -> Tensor:
        """Apply `number` steps to rows `(N, D)`; the result `(N, D)` includes factored-out numbers."""
        x = x.to(self._device)
        for step in self.steps[:number]:
            x, _ = step.module(x)
        return x

    @torch.no_grad()
    def inverse(self, state: Tensor, number: int) -> Tensor:
        """Invert `forward`."""
        for step in reversed(self.steps[:number]):
            state = step.module.inverse(state)
        return state


@dataclass(frozen=True)
class ChannelEffect:
    """Rows with a channel changed, for each input row one of each amount, which is the column `amount`."""

    rows: GeneratedRows
    layer: Layer
    channel: int
    standard_deviation: float


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
    ids: npt.NDArray[Any] | None = None,
) -> ChannelEffect:
    """Change one channel of some rows by several amounts.

    Args:
        layers: layers of the model.
        x: the flow's inputs of the rows, `(N, D)`, with names `ids`.
        number: number of the layer.
        channel: index; None takes the channel of the largest standard deviation.
        amounts: alpha, in standard deviations of the channel, which those of the rows `reference` determine.
        reference: rows `(M, D)`, at least 2.
        extent: shape of delta.
        site: row and column of delta in the layer; the middle by default.
        ids: names of the rows.

    Raises:
        RunFailedError: an inverse is not finite.
        UsageError: there is no such layer, channel or site.
    """
    layer = layers.get(number)
    numbers = math.prod(layer.shape)
    states = layers.forward(reference, number)[:, :numbers].reshape(-1, *layer.shape)
    deviations = states.transpose(0, 1).flatten(1).std(1)
    channel = int(deviations.argmax()) if channel is None else channel
    if not 0 <= channel < layer.shape[0]:
        raise UsageError(
            f"--channel is {channel}, and layer {number} has the channels 0 to {layer.shape[0] - 1}",
            hint="`flowgmm features` lists layers with their shapes",
        )
    state = layers.forward(x, number)
    direction = state.new_zeros(state.shape[1])
    mask = perturbation_mask(layer, extent, site).to(direction)
    direction[:numbers].view(layer.shape)[channel] = mask * deviations[channel]
    alpha = torch.tensor(list(amounts)).to(state)
    moved = state[:, None] + alpha[None, :, None] * direction
    back = layers.inverse(moved.flatten(0, 1), number)
    names = range(1, len(x) + 1) if ids is None else ids
    rows = GeneratedRows.from_flow_inputs(
        layers.trained,
        back,
        ids=np.repeat(names, len(amounts)),
        extra_columns={"amount": np.tile(np.asarray(amounts, dtype=np.float64), len(x))},
    )
    return ChannelEffect(rows, layer, channel, float(deviations[channel]))


def perturbation_mask(layer: Layer, extent: Extent, site: tuple[int, int] | None = None) -> Tensor:
    """Return delta for a channel: `(height, width)` with 1 at the site, or a scalar for vectors.

    >>> perturbation_mask(Layer(1, "", (2, 3, 3)), "site", (0, 2)).tolist()
    [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    if len(layer.shape) == 1:
        return torch.ones(())
    height, width = layer.shape[1:]
    row, column = site if site is not None else (height // 2, width // 2)
    if not (0 <= row < height and 0 <= column < width):
        raise UsageError(
            f"--at {row},{column} lies outside of layer {layer.number}, which is {height} x {width}",
            hint=f"--at {height // 2},{width // 2} is its middle",
        )
    if extent == "channel":
        return torch.ones(height, width)
    y, x = torch.arange(height) - row, torch.arange(width) - column
    if extent == "site":
        return ((y[:, None] == 0) & (x[None, :] == 0)).float()
    size = max(height, width) / _BUMP
    return torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * size**2))

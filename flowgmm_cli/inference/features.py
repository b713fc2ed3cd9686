r"""What a channel of a layer does: rows with it turned up and down, through the inverse of the layers before.

.. math:: x(\alpha) = f_{1:l}^{-1}\big(f_{1:l}(x) + \alpha \, \sigma_c \, \delta\big)

with the standard deviation :math:`\sigma_c` of channel c over rows and positions, and :math:`\delta` one
position, a bump around it, or the whole channel. A flow needs no optimisation for this, unlike classifiers:
its layers can be undone.
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
from flowgmm_cli.inference.sampling import GeneratedRows, describe_rows
from flowgmm_cli.trained import TrainedModel

if TYPE_CHECKING:
    import numpy.typing as npt

Extent = Literal["bump", "channel", "site"]
WHERE: tuple[Extent, ...] = ("bump", "channel", "site")
_BUMP = 6.0  # a bump's standard deviation is the longer side divided by this


@dataclass(frozen=True)
class Layer:
    """What stands after a number of steps of a flow.

    Attributes:
        number: of steps; 0 is the flow's input, the last one the latent.
        name: of the last of them.
        shape: `(channels, height, width)`, or `(D,)` of a vector, whose entries are its channels.
        factored: numbers of a row that were factored out before, and that no later step touches.
    """

    number: int
    name: str
    shape: tuple[int, ...]
    factored: int = 0

    @property
    def channels(self) -> int:
        """How many there are."""
        return self.shape[0]


class FlowLayers:
    """The layers of a model's flow; of an ensemble those of its first member.

    Args:
        trained: the model.
    """

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained
        flow = trained.model.parts[0].flow
        width, shape = trained.preprocessor.dim, trained.preprocessor.shape
        self._device = trained.model.temperature.device
        generator = torch.Generator().manual_seed(0)
        rows = torch.rand(2, width, generator=generator)  # pixels lie between 0 and 1; other flows take any
        self.steps: list[Step] = list_steps(flow, rows.to(self._device), "flow")
        of_images = any(step.shape for step in self.steps)
        self.layers = [Layer(0, "input", shape if of_images else (width,))]
        for number, step in enumerate(self.steps, 1):
            found = step.shape or (width,)
            self.layers.append(Layer(number, step.name, found, width - math.prod(found)))

    def at(self, number: int) -> Layer:
        """The layer of a number. Raises `UsageError` if there is none."""
        if not 0 <= number < len(self.layers):
            raise UsageError(
                f"--layer is {number}, and the flow has the layers 0 to {len(self.layers) - 1}",
                hint="`flowgmm features` lists them",
            )
        return self.layers[number]

    @torch.no_grad()
    def forward(self, x: Tensor, number: int) -> Tensor:
        """What rows `(N, D)` are after `number` steps, `(N, D)`, what was factored out included."""
        x = x.to(self._device)
        for step in self.steps[:number]:
            x, _ = step.forward(x)
        return x

    @torch.no_grad()
    def inverse(self, state: Tensor, number: int) -> Tensor:
        """Undo `forward`."""
        for step in reversed(self.steps[:number]):
            state = step.inverse(state)
        return state

    def spreads(self, state: Tensor, layer: Layer) -> Tensor:
        """Standard deviation of each channel over rows and positions, `(channels,)`."""
        return self._head(state, layer).transpose(0, 1).flatten(1).std(1)

    def _head(self, state: Tensor, layer: Layer) -> Tensor:
        return state[:, : math.prod(layer.shape)].reshape(len(state), *layer.shape)


@dataclass(frozen=True)
class ChannelEffect:
    """Rows with a channel turned up and down.

    Attributes:
        made: one row for each row and amount, row by row; the column `amount` holds the amounts.
        layer: whose channel.
        channel: which, from 0.
        spread: its standard deviation.
    """

    made: GeneratedRows
    layer: Layer
    channel: int
    spread: float


def perturb_channel(
    layers: FlowLayers,
    x: Tensor,
    number: int,
    channel: int | None,
    amounts: Sequence[float],
    *,
    reference: Tensor,
    where: Extent = "bump",
    site: tuple[int, int] | None = None,
    ids: npt.NDArray[Any] | None = None,
) -> ChannelEffect:
    """Turn one channel of some rows up and down.

    Args:
        layers: of the model.
        x: the flow's inputs of the rows, `(N, D)`.
        number: of the layer.
        channel: from 0; None takes the one with the largest standard deviation.
        amounts: alpha, in standard deviations of the channel.
        reference: rows `(M, D)` over which that is taken, at least 2.
        where: delta.
        site: its row and column in the layer; the middle by default.
        ids: names of the rows.

    Raises:
        RunFailedError: an inverse is not finite.
        UsageError: there is no such layer, channel or site.
    """
    layer = layers.at(number)
    spreads = layers.spreads(layers.forward(reference, number), layer)
    channel = int(spreads.argmax()) if channel is None else channel
    if not 0 <= channel < layer.channels:
        raise UsageError(
            f"--channel is {channel}, and layer {number} has the channels 0 to {layer.channels - 1}",
            hint="`flowgmm features` lists layers with their shapes",
        )
    state = layers.forward(x, number)
    push = torch.zeros(layer.shape, dtype=state.dtype, device=state.device)
    push[channel] = perturbation_mask(layer, where, site).to(push)
    push = torch.cat([push.flatten(), push.new_zeros(layer.factored)]) * spreads[channel]
    alpha = torch.tensor(list(amounts), dtype=state.dtype, device=state.device)
    moved = state[:, None] + alpha[None, :, None] * push
    back = layers.inverse(moved.flatten(0, 1), number)
    names = [str(one) for one in (range(1, len(x) + 1) if ids is None else ids)]
    made = describe_rows(
        layers.trained,
        back,
        ids=[name for name in names for _ in amounts],
        further={"amount": np.tile(np.asarray(amounts, dtype=np.float64), len(x))},
    )
    return ChannelEffect(made, layer, channel, float(spreads[channel]))


def perturbation_mask(layer: Layer, where: Extent, site: tuple[int, int] | None = None) -> Tensor:
    """Where a channel is changed: `(height, width)` with 1 at the site, or a scalar for vectors.

    >>> delta(Layer(1, "", (2, 3, 3)), "site", (0, 2)).tolist()
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
    if where == "channel":
        return torch.ones(height, width)
    found = torch.zeros(height, width)
    found[row, column] = 1
    if where == "bump":
        size = max(height, width) / _BUMP
        y, x = torch.arange(height) - row, torch.arange(width) - column
        found = torch.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * size**2))
    return found

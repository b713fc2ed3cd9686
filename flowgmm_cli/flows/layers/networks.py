"""Networks inside couplings, for vectors and for images; each starts as the constant zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def draw_parameters(layer: Layer, generator: torch.Generator) -> Layer:
    """Replace weight and bias by draws from PyTorch's default, U(-1/sqrt(n), 1/sqrt(n)) with n inputs.

    `layer` may be on the device `meta`: then the global generator is not used.
    """
    bound = layer.weight[0].numel() ** -0.5
    return _replace(layer, lambda shape: torch.empty(shape).uniform_(-bound, bound, generator=generator))


def zero_parameters(layer: Layer) -> Layer:
    """Replace weight and bias by zeros."""
    return _replace(layer, torch.zeros)


def _replace(layer: Layer, make: Callable[[torch.Size], Tensor]) -> Layer:
    for name, parameter in list(layer.named_parameters()):
        setattr(layer, name, nn.Parameter(make(parameter.shape)))
    return layer


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with parameters drawn from `generator`."""
    return draw_parameters(nn.Linear(inputs, outputs, device="meta"), generator)


def conv(inputs: int, outputs: int, size: int, generator: torch.Generator) -> nn.Conv2d:
    """A convolution that keeps height and width, with parameters drawn from `generator`."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, device="meta")
    return draw_parameters(layer, generator)


def zero_conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """A convolution that keeps height and width, with parameters 0."""
    return zero_parameters(nn.Conv2d(inputs, outputs, size, padding=size // 2, device="meta"))


class Conditioner(nn.Sequential):
    """ReLU network for vectors.

    It runs in the precision of autocast: its matrix products are nearly the whole cost of a flow.

    Args:
        inputs: features in.
        outputs: features out.
        hidden: width of the hidden layers.
        depth: number of hidden layers, at least 1.
        dropout: probability that a unit of the first hidden layer is dropped in training, as in the networks
            for tables and text of Izmailov et al. (2020). The log-determinant is that of the thinned network,
            so each step trains an exact flow.
        generator: draws the parameters, on the CPU.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int,
        depth: int,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        layers: list[nn.Module] = []
        for width in [inputs] + [hidden] * (depth - 1):
            layers += [linear(width, hidden, generator), nn.ReLU(inplace=True)]
            if dropout and len(layers) == 2:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers, zero_parameters(linear(hidden, outputs, generator)))

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs)` to `(batch, outputs)` in float32, or in the dtype of `x` if that is wider."""
        out = x
        for layer in self:
            out = layer(out)
        return out.to(torch.promote_types(x.dtype, torch.float32))


class ConvConditioner(nn.Module):
    """Base of the networks for images, which keep height and width, from `inputs` to `outputs` channels.

    The network runs in the precision of autocast and returns float32. Images get the memory format "channels
    last", in which bfloat16 convolutions of 14 by 14 pixels were about twice as fast on a CPU.
    """

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs, height, width)` to `(batch, outputs, height, width)`."""
        out: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return out.to(torch.promote_types(x.dtype, torch.float32))


class ShallowConditioner(ConvConditioner):
    """Convolutions of 3, 1 and 3 pixels with ReLUs between them (Kingma and Dhariwal, 2018).

    `hidden` is the number of channels between them, `dropout` the probability that a channel of the first
    layer is dropped in training; see `ConvConditioner`.
    """

    def __init__(
        self, inputs: int, outputs: int, *, hidden: int, dropout: float = 0.0, generator: torch.Generator
    ) -> None:
        layers: list[nn.Module] = [conv(inputs, hidden, 3, generator), nn.ReLU(inplace=True)]
        if dropout:
            layers.append(nn.Dropout2d(dropout))
        layers += [conv(hidden, hidden, 1, generator), nn.ReLU(inplace=True), zero_conv(hidden, outputs, 3)]
        super().__init__(nn.Sequential(*layers))


class ResidualBlock(nn.Module):
    """Pre-activation residual block, x + conv(ReLU(conv(ReLU(x)))) (He et al., 2016).

    There is no batch normalisation: the density of a row must not depend on the other rows.
    """

    def __init__(self, hidden: int, *, dropout: float = 0.0, generator: torch.Generator) -> None:
        super().__init__()
        self.first = conv(hidden, hidden, 3, generator)
        self.dropout = nn.Dropout2d(dropout)
        self.second = conv(hidden, hidden, 3, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, hidden, height, width)` to the same shape."""
        inner = self.dropout(torch.relu(self.first(torch.relu(x))))
        return torch.add(x, self.second(inner))


class ResidualConditioner(ConvConditioner):
    """Residual network as in RealNVP (Dinh et al., 2017, section 3.6), without batch normalisation.

    It has `blocks` of two convolutions with `hidden` channels, of which inner ones are dropped with the
    probability `dropout` in training; see `ConvConditioner`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int,
        blocks: int,
        dropout: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        layers: list[nn.Module] = [conv(inputs, hidden, 3, generator)]
        layers += [ResidualBlock(hidden, dropout=dropout, generator=generator) for _ in range(blocks)]
        super().__init__(nn.Sequential(*layers, nn.ReLU(inplace=True), zero_conv(hidden, outputs, 1)))

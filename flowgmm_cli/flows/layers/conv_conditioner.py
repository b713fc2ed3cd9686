"""The convolutional networks inside couplings of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv(inputs: int, outputs: int, size: int, generator: torch.Generator) -> nn.Conv2d:
    """A convolution that keeps height and width, drawn from `generator` by PyTorch's own law.

    U(-1/sqrt(n), 1/sqrt(n)) with n = inputs size^2; `nn.Conv2d` would draw from the global generator.
    """
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, device="meta").to_empty(device="cpu")
    bound = (inputs * size * size) ** -0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)
    return layer


def zero_conv(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """A convolution whose weights and biases are zero, so that a coupling starts as the identity."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, device="meta").to_empty(device="cpu")
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class ConvConditioner(nn.Module):
    """Base: images in, images of the same size out, in the precision of autocast but float32 in the end.

    The images are laid out with the channels last, in which convolutions of 14 by 14 places were about twice
    as fast in bfloat16 on a CPU; the weights keep the usual layout, the one of a file.
    """

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs, height, width)` to `(batch, outputs, height, width)`."""
        out: Tensor = self.net(x.contiguous(memory_format=torch.channels_last))
        return out.to(torch.promote_types(x.dtype, torch.float32))


class ShallowConditioner(ConvConditioner):
    """Convolutions of 3, 1 and 3 pixels with ReLUs between (Kingma and Dhariwal, 2018); at first 0.

    Args:
        inputs: channels in.
        outputs: channels out.
        hidden: channels between.
        dropout: share of the first layer's channels dropped in training.
        generator: seeds the weights, on the CPU.
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
    """x + conv(ReLU(conv(ReLU(x)))), the pre-activation block of He et al. (2016).

    There is no normalisation over the batch: a row's density must not depend on the rows beside it.
    """

    def __init__(self, hidden: int, *, dropout: float = 0.0, generator: torch.Generator) -> None:
        super().__init__()
        self.first = conv(hidden, hidden, 3, generator)
        self.dropout = nn.Dropout2d(dropout)
        self.second = conv(hidden, hidden, 3, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, hidden, height, width)` to the same shape."""
        inner = self.dropout(torch.relu(self.first(torch.relu(x))))
        return x + self.second(inner)  # type: ignore[no-any-return]


class ResidualConditioner(ConvConditioner):
    """A residual network as in RealNVP (Dinh et al., 2017, section 3.6), without batch norm; at first 0.

    Args:
        inputs: channels in.
        outputs: channels out.
        hidden: channels of the blocks.
        blocks: number of blocks, of two convolutions each.
        dropout: share of a block's inner channels dropped in training.
        generator: seeds the weights, on the CPU.
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

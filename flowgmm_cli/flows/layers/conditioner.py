"""The network inside a coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with weights of PyTorch's own law, U(-1/sqrt(inputs), 1/sqrt(inputs)), from `generator`.

    The layer is built without memory, on the device `meta`, which leaves the global generator alone.
    """
    layer = nn.Linear(inputs, outputs, device="meta")
    draw_parameters(layer, generator)
    return layer


def draw_parameters(layer: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    """Replace weight and bias by draws from U(-1/sqrt(n), 1/sqrt(n)), n the inputs of one output."""
    bound = layer.weight[0].numel() ** -0.5
    for name, parameter in list(layer.named_parameters()):
        values = torch.empty(parameter.shape).uniform_(-bound, bound, generator=generator)
        setattr(layer, name, nn.Parameter(values))


class Conditioner(nn.Sequential):
    """A ReLU network from `inputs` to `outputs` features that starts as the constant zero.

    It runs in whatever precision autocast asks for: its matrix products are nearly the whole cost of a flow.

    Args:
        inputs: features in.
        outputs: features out.
        hidden: width of the hidden layers.
        depth: number of hidden layers, at least 1.
        dropout: share of the first hidden layer's units that are dropped in training, as in the paper's
            networks for tables and text (Izmailov et al., 2020). A dropped unit's part in the log-scale is
            dropped from the log-determinant too: each step trains an exact flow, only a different one.
        generator: seeds the weights, on the CPU.
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
        last = linear(hidden, outputs, generator)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*layers, last)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs)` to `(batch, outputs)` in float32, or in the dtype of `x` if that is wider."""
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return out.to(torch.promote_types(x.dtype, torch.float32))

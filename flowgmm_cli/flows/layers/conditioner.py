"""The network inside a coupling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowgmm_cli.flows.layers.fused import fused_dtype, fused_network


def linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer drawn from `generator` by PyTorch's own law, U(-1/sqrt(inputs), 1/sqrt(inputs)).

    `nn.Linear` itself would draw from the global generator, and made on the device `meta` it would import
    SymPy.
    """
    layer = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(layer)
    layer.in_features, layer.out_features = inputs, outputs
    bound = inputs**-0.5
    layer.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-bound, bound, generator=generator))
    layer.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound, generator=generator))
    return layer


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
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, inputs)` to `(batch, outputs)` in float32, or in the dtype of `x` if that is wider."""
        if not (self.dropout and self.training):
            layers = self._alone()
            dtype = fused_dtype(x, layers) if layers else None
            if dtype is not None:
                return fused_network(x, layers, dtype)
        out: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return out.to(torch.promote_types(x.dtype, torch.float32))

    def _alone(self) -> list[nn.Linear]:
        """The linear layers, if nobody listens to what they put out and none is of another kind."""
        found: list[nn.Linear] = []
        for layer in self:
            if layer._forward_hooks or layer._forward_pre_hooks:
                return []
            if type(layer) is nn.Linear:
                found.append(layer)
            elif type(layer) not in (nn.ReLU, nn.Dropout):
                return []
        return found

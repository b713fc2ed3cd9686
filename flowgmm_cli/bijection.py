"""Base of all invertible maps: data transforms, flow layers and flows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class Bijection(nn.Module, ABC):
    r"""Invertible map :math:`z = f(x)` with its log-determinant.

    No state is kept between calls. `log_det` has shape `(batch,)` and is at least float32, even under
    autocast.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Map `x` of shape `(batch, ...)` to `(z, log_det)`.

        `log_det` is :math:`\log|\det \partial f(x) / \partial x|` per row, shape `(batch,)`.
        """

    @abstractmethod
    def inverse(self, z: Tensor) -> Tensor:
        """Map `z` back to `x`."""

    def extra_repr(self) -> str:
        """Return the numbers of the layer, such as `features=3`, which are shown when it is printed."""
        numbers = {
            name: value for name, value in vars(self).items() if isinstance(value, int | float | tuple)
        }
        shown = [name for name in numbers if name != "training" and not name.startswith("_")]
        return ", ".join(f"{name}={numbers[name]}" for name in shown)


def zero_log_det(x: Tensor) -> Tensor:
    """Zeros of shape `(batch,)` on the device of `x`, at least float32."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.zeros(x.shape[0], dtype=dtype, device=x.device)


class Sequential(Bijection):
    """Composition of bijections, first to last; without layers the identity.

    Examples:
        >>> import torch
        >>> Sequential()(torch.ones(2, 3))[1]
        tensor([0., 0.])
    """

    def __init__(self, layers: Iterable[Bijection] = ()) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the layers in order and sum their log-determinants."""
        total = zero_log_det(x)
        for layer in self.layers:
            x, log_det = layer(x)
            total = total + log_det
        return x, total

    def inverse(self, z: Tensor) -> Tensor:
        """Invert the layers in reverse order."""
        layers: Iterable[Any] = reversed(self.layers)
        for layer in layers:
            z = layer.inverse(z)
        return z

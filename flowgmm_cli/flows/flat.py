"""Flows of images with the interface of flows of vectors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class FlatFlow(nn.Module):
    """Flow of images that takes and returns vectors.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back.
        shape: of one row.
    """

    def __init__(self, flow: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.flow: Any = flow

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """See the function `latent_sizes`."""
        return latent_sizes(self.flow)

    def initialise(self, x: Tensor) -> None:
        """Initialise layers that depend on data from rows `(N, D)`, if the flow has such layers."""
        initialise = getattr(self.flow, "initialise", None)
        if initialise is not None:
            initialise(self.unflatten(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        z, log_det = self.flow(self.unflatten(x))
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        x: Tensor = self.flow.inverse(z)
        return x.flatten(1)

    def unflatten(self, x: Tensor) -> Tensor:
        """Reshape vectors `(N, D)` to the input of the flow, `(N, *shape)`."""
        return x.reshape(len(x), *self.shape)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"shape={self.shape}"


def latent_sizes(flow: nn.Module) -> tuple[int, ...]:
    """Latent dimensions of each scale of a flow, the coarsest first; empty for a flow without scales."""
    sizes: tuple[int, ...] = getattr(flow, "latent_sizes", ())
    return tuple(sizes)

"""Flows of images with the interface of flows of vectors."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det


class Unflatten(Bijection):
    """Reshape of vectors `(batch, features)` to arrays `(batch, *shape)`; the log-determinant is 0.

    Args:
        shape: of one row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reshape vectors to arrays."""
        return x.reshape(len(x), *self.shape), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Flatten arrays to vectors."""
        return z.reshape(len(z), -1)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"shape={self.shape}"


class FlatFlow(nn.Module):
    """Flow of images that takes and returns vectors.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back.
        shape: of one row.
    """

    def __init__(self, flow: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unflatten = Unflatten(shape)
        self.flow: Any = flow

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """See the function `latent_sizes`."""
        return latent_sizes(self.flow)

    def initialise(self, x: Tensor) -> None:
        """Initialise layers that depend on data from rows `(N, D)`, if the flow has such layers."""
        initialise = getattr(self.flow, "initialise", None)
        if initialise is not None:
            initialise(self.unflatten(x)[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        z, log_det = self.flow(self.unflatten(x)[0])
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        return self.unflatten.inverse(self.flow.inverse(z))


def latent_sizes(flow: nn.Module) -> tuple[int, ...]:
    """Latent dimensions of each scale of a flow, the coarsest first; empty for a flow without scales."""
    sizes: tuple[int, ...] = getattr(flow, "latent_sizes", ())
    return tuple(sizes)

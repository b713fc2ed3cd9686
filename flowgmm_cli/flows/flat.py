"""A flow of images for rows that come as vectors."""

from __future__ import annotations

from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, zero_log_det


class Unflatten(Bijection):
    """Vectors `(batch, features)` as arrays `(batch, *shape)`; the log-determinant is 0.

    Args:
        shape: of one row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Give the rows their shape."""
        return x.reshape(len(x), *self.shape), zero_log_det(x)

    def inverse(self, z: Tensor) -> Tensor:
        """Take it from them."""
        return z.reshape(len(z), -1)

    def extra_repr(self) -> str:
        """Parameters shown when the module is printed."""
        return f"shape={self.shape}"


class FlatFlow(nn.Module):
    """A flow of images as one of vectors, so that whatever stands around flows knows vectors alone.

    Args:
        flow: maps rows `(N, *shape)` to latents `(N, D)` and back.
        shape: of one row.
    """

    def __init__(self, flow: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unflatten = Unflatten(shape)
        self.flow = flow

    @property
    def latent_sizes(self) -> tuple[int, ...]:
        """See `latent_sizes`."""
        return latent_sizes(self.flow)

    def initialise(self, x: Tensor) -> None:
        """Let layers start from rows `(N, D)`, if the flow has such layers."""
        start = getattr(self.flow, "initialise", None)
        if start is not None:
            start(self.unflatten(x)[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to latents `(N, D)` and the log-determinant `(N,)`."""
        z, log_det = self.flow(self.unflatten(x)[0])
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        return self.unflatten.inverse(self.flow.inverse(z))  # type: ignore[operator]


def latent_sizes(flow: nn.Module) -> tuple[int, ...]:
    """Latent dimensions of each scale of a flow, the coarsest first; empty where it has no scales."""
    sizes: tuple[int, ...] = getattr(flow, "latent_sizes", ())
    return tuple(sizes)

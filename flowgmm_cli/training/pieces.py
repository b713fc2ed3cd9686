"""Many tensors in one piece of memory: what is done to all of them alike is one operation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ROW = 1024
_SPARE = 16
_ALIGNED = 16  # numbers; every tensor begins where vector instructions like it, at 64 bytes in float32


class Pieces:
    """Tensors of given shapes one after the other, zeros at first.

    Args:
        likes: tensors of these shapes; the first says on which device.
        dtype: of all; None = that of the first.

    Attributes:
        all: all of them, one vector; what lies between two of them stays 0.
        parts: views of it, in the shapes of `likes`.
        memory: `all`, and room for a few numbers more.
    """

    def __init__(self, likes: Sequence[Tensor], *, dtype: torch.dtype | None = None) -> None:
        self._starts = [0]
        for one in likes:
            self._starts.append(self._starts[-1] + -(-one.numel() // _ALIGNED) * _ALIGNED)
        self._size = -(-self._starts[-1] // _ROW) * _ROW
        self.memory = torch.zeros(self._size + _SPARE, dtype=dtype or likes[0].dtype, device=likes[0].device)
        self.all = self.memory[: self._size]
        self.parts, self._gaps = [], []
        for start, end, like in zip(self._starts, [*self._starts[1:-1], self._size], likes, strict=False):
            self.parts.append(self.memory[start : start + like.numel()].view(like.shape))
            self._gaps.append(self.memory.new_zeros(end - start - like.numel()))

    def span(self, place: slice) -> Tensor:
        """Some of the tensors, first to last, as one vector."""
        return self.memory[self._starts[place.start] : self._starts[place.stop]]

    @torch.no_grad()
    def fill(
        self, tensors: Sequence[Tensor | None], *scalars: Tensor, memory: Tensor | None = None
    ) -> Tensor:
        """Write tensors in their places, zeros for None, and at most a few scalars behind them.

        Args:
            tensors: of the shapes of the parts.
            scalars: numbers.
            memory: write into this one, like `memory` and as long, instead of one's own.

        Returns:
            One vector, all that was written.
        """
        found: list[Tensor] = []
        for one, part, gap in zip(tensors, self.parts, self._gaps, strict=True):
            found.append(torch.zeros_like(part).view(-1) if one is None else one.detach().reshape(-1))
            if len(gap):
                found.append(gap)
        written = (self.memory if memory is None else memory)[: self._size + len(scalars)]
        torch.cat([*found, *(one.detach().reshape(1) for one in scalars)], out=written)
        return written


def norm_of(vector: Tensor) -> Tensor:
    """The Euclidean norm of `Pieces.all`, a scalar.

    Of rows first: one long sum of squares in float32 loses its last digits.
    """
    norm: Tensor = torch.linalg.vector_norm(torch.linalg.vector_norm(vector.view(-1, _ROW), dim=1))
    return norm


def gathered(parameters: Sequence[nn.Parameter]) -> Pieces | None:
    """Move parameters into one piece of memory, of which they are views from then on.

    None, and nothing is moved, where they are of several kinds, on several devices or not laid out by rows.
    """
    kinds = {(one.dtype, one.device, type(one.data), one.data.is_contiguous()) for one in parameters}
    if len(kinds) != 1 or next(iter(kinds))[2:] != (Tensor, True):
        return None
    pieces = Pieces(parameters)
    pieces.fill(parameters)
    for one, part in zip(parameters, pieces.parts, strict=True):
        one.data = part
    return pieces

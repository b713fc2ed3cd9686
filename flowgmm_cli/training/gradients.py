"""Gradients between the backward pass and the optimiser: averaged over the processes, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from flowgmm_cli.training.adam import Adam
from flowgmm_cli.training.fsdp import divided, own
from flowgmm_cli.training.pieces import Pieces, norm_of
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.shared_sum import SharedSum

_TINY = 1e-6  # as in `torch.nn.utils.clip_grad_norm_`


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimiser changes, by name: the trained parameters, of divided ones this process's share.

    A share lies in the memory of its parameter, so that a change of the one is a change of the other.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return {name: nn.Parameter(own(one)) if divided(one) else one for name, one in trained.items()}


class Gradients:
    """The gradients of a student.

    They lie one after the other in one piece of memory: they are added up as one vector, and divided and
    shortened by one operation.

    Args:
        model: the student.
        parameters: its `own_parameters`, which get the gradients.
        processes: those that train together.
        optimiser: has a place for them, if the parameters themselves lie in one piece of memory.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        processes: Processes,
        optimiser: Adam | None = None,
    ) -> None:
        named = dict(model.named_parameters())
        self._all = list(parameters.values())
        self._divided = [(named[name], one) for name, one in parameters.items() if named[name] is not one]
        self._whole = [one for name, one in parameters.items() if named[name] is one]
        self._processes = processes
        self._pieces: Pieces | None = None
        if optimiser is not None and optimiser.slopes is not None:
            self._whole, self._pieces = optimiser.parameters, optimiser.slopes
        elif self._whole:
            kind = reduce(torch.promote_types, (one.dtype for one in self._whole))
            self._pieces = Pieces(self._whole, dtype=kind)
        self._shared = None if self._pieces is None else SharedSum.like(self._pieces.memory, processes)
        self._sums = self._all[0].new_zeros(0)  # of the processes' gradients that are no shares
        self._squares: Tensor | None = None  # of all shares, added up

    def clear(self) -> None:
        """Forget those of the last step."""
        for one in (*self._all, *(whole for whole, _ in self._divided)):
            one.grad = None

    def average(self, *scalars: Tensor) -> None:
        """Add them up over the processes, for `clip` to divide, and replace scalars by their means.

        Divided gradients are means already.

        Raises:
            LostProcessError: another process is gone.
        """
        if self._processes.alone:
            return
        squares = self._hand_out()
        message = self._collect(*scalars, *squares)
        numbers = len(message) - len(scalars) - len(squares)
        if self._shared is None:
            self._processes.add_up(message)
        else:
            message = self._shared.add_up()[: len(message)]
        self._sums, found = message[:numbers], message[numbers:]
        for scalar, part in zip(scalars, found, strict=False):
            scalar.copy_(part / self._processes.count)
        self._squares = found[-1] if squares else None

    def clip(self, limit: float | None) -> Tensor:
        """Shorten them to a norm of at most `limit`; returns the norm before, a scalar."""
        if self._processes.alone:
            self._sums = self._collect()
        norm = norm_of(self._sums) / self._processes.count
        if self._squares is not None:
            norm = (norm.square() + self._squares).sqrt()
        factor = ((limit or float("inf")) / (norm + _TINY)).clamp(max=1)
        if self._pieces is not None:
            torch.mul(self._sums, factor / self._processes.count, out=self._pieces.all)
            for one, part in zip(self._whole, self._pieces.parts, strict=True):
                if one.grad is not None:
                    one.grad = part if one.dtype == part.dtype else part.to(one.dtype)
        shares = [one.grad for _, one in self._divided if one.grad is not None]
        if shares:
            torch._foreach_mul_(shares, factor)
        return norm

    def _collect(self, *scalars: Tensor) -> Tensor:
        """All gradients that are no shares, one after the other, and scalars behind them."""
        if self._pieces is None:
            return torch.cat([self._sums[:0], *(one.detach().reshape(1) for one in scalars)])
        memory = None if self._shared is None else self._shared.mine
        return self._pieces.fill([one.grad for one in self._whole], *scalars, memory=memory)

    def _hand_out(self) -> list[Tensor]:
        """Give the shares their gradients; the sum of the squares of this process's, if there are any."""
        for one, share in self._divided:
            share.grad = None if one.grad is None else own(one.grad)
        mine = [share.grad for _, share in self._divided if share.grad is not None]
        if not self._divided:
            return []
        if not mine:
            return [torch.zeros((), device=self._divided[0][1].device)]
        return [torch.stack(torch._foreach_norm(mine)).square().sum()]

"""Gradients between the backward pass and the optimiser: averaged over the processes, and bounded."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from flowgmm_cli.training.fsdp import divided, own
from flowgmm_cli.training.processes import Processes

_TINY = 1e-6  # as in `torch.nn.utils.clip_grad_norm_`


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimiser changes, by name: the trained parameters, of divided ones this process's share.

    A share lies in the memory of its parameter, so that a change of the one is a change of the other.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    return {name: nn.Parameter(own(one)) if divided(one) else one for name, one in trained.items()}


class Gradients:
    """The gradients of a student.

    Those that several processes average lie one after the other in one buffer, of which each is a view: they
    travel as one message, and are divided and shortened by one operation.

    Args:
        model: the student.
        parameters: its `own_parameters`, which get the gradients.
        processes: those that train together.
    """

    def __init__(
        self, model: nn.Module, parameters: Mapping[str, nn.Parameter], processes: Processes
    ) -> None:
        named = dict(model.named_parameters())
        self._all = list(parameters.values())
        self._divided = [(named[name], one) for name, one in parameters.items() if named[name] is not one]
        self._whole = [one for name, one in parameters.items() if named[name] is one]
        self._processes = processes
        self._buffer = torch.empty(0)
        self._sums = self._buffer  # the part of it that holds gradients, summed up over the processes
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
        slopes = [(one, one.grad) for one in self._whole if one.grad is not None]
        squares = self._hand_out()
        parts = [*(slope for _, slope in slopes), *scalars, *squares]
        sizes = [part.numel() for part in parts]
        kind = reduce(torch.promote_types, (part.dtype for part in parts))
        if (self._buffer.numel(), self._buffer.dtype) != (sum(sizes), kind):
            self._buffer = parts[0].new_empty(sum(sizes), dtype=kind)
        torch.cat([part.reshape(-1) for part in parts], out=self._buffer)
        self._processes.add_up(self._buffer)
        found = self._buffer.split_with_sizes(sizes)
        for (one, _), part in zip(slopes, found, strict=False):
            one.grad = part.view_as(one).to(one.dtype)
        for scalar, part in zip(scalars, found[len(slopes) :], strict=False):
            scalar.copy_(part.view(()) / self._processes.count)
        self._sums = self._buffer[: sum(sizes[: len(slopes)])]
        self._squares = found[-1].view(()) if squares else None

    def clip(self, limit: float | None) -> Tensor:
        """Shorten them to a norm of at most `limit`; returns the norm before, a scalar."""
        limit = limit or float("inf")
        if self._processes.alone:
            return torch.nn.utils.clip_grad_norm_(self._all, limit)
        norm: Tensor = self._sums.norm() / self._processes.count
        if self._squares is not None:
            norm = (norm.square() + self._squares).sqrt()
        factor = (limit / (norm + _TINY)).clamp(max=1)
        self._sums.mul_(factor / self._processes.count)
        for one in self._whole:
            if one.grad is not None and one.dtype != self._sums.dtype:  # no view of the sums
                one.grad.mul_(factor / self._processes.count)
        shares = [one.grad for _, one in self._divided if one.grad is not None]
        if shares:
            torch._foreach_mul_(shares, factor)
        return norm

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

"""The blocks of a flow, each of which FSDP puts together when it is called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowgmm_cli.bijection import Bijection

_LEAST = 0.1  # of the largest block; below, a message of its own costs more than it saves


@torch.no_grad()
def blocks_of(flow: nn.Module, x: Tensor) -> list[nn.Module]:
    """Parts that hold nearly all parameters, none inside another, each at work only while it is called.

    Whatever is in no block is small, or used by others than the module that has it: a coupling in a
    `CouplingStack`, for instance, is never called itself, but its network is.

    Args:
        flow: any module, also one of a plugin that knows nothing of blocks.
        x: a few rows that it takes; one pass shows what calls what.
    """
    calls = _Calls(flow)
    with calls:
        flow(x)
    found = [one for one in _candidates(flow, calls.called) if calls.alone_in(one)]
    holders: dict[nn.Parameter, int] = {}
    for one in found:
        for parameter in one.parameters():
            holders[parameter] = holders.get(parameter, 0) + 1
    found = [one for one in found if all(holders[parameter] == 1 for parameter in one.parameters())]
    largest = max((_size(one) for one in found), default=0)
    return [one for one in found if _size(one) >= _LEAST * largest]


def _candidates(module: nn.Module, called: set[nn.Module]) -> Iterator[nn.Module]:
    """The innermost bijections that are called, and of what is none, the outermost."""
    for child in module.children():
        inner = any(isinstance(one, Bijection) for one in child.modules() if one is not child)
        if child in called and not inner:
            if _size(child):
                yield child
        else:
            yield from _candidates(child, called)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim)


class _Calls(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees which modules are called, and during which calls each parameter is used."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.called: set[nn.Module] = set()
        self._used: dict[nn.Parameter, set[nn.Module]] = {}
        self._now: list[nn.Module] = []
        self._module = module
        self._handles: list[Any] = []

    def __enter__(self) -> _Calls:
        for one in self._module.modules():
            self._handles.append(one.register_forward_pre_hook(self._starts))
            self._handles.append(one.register_forward_hook(self._ends))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()

    def alone_in(self, module: nn.Module) -> bool:
        """Whether the module's parameters were used while it was called, and at no other time."""
        return all(module in self._used.get(parameter, {module}) for parameter in module.parameters())

    def _starts(self, module: nn.Module, given: Any) -> None:
        self.called.add(module)
        self._now.append(module)

    def _ends(self, module: nn.Module, given: Any, put_out: Any) -> None:
        self._now.pop()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for one in tree_leaves((args, kwargs)):
            if isinstance(one, nn.Parameter):
                self._used[one] = self._used.get(one, set(self._now)) & set(self._now)
        return func(*args, **(kwargs or {}))

"""Blocks of a flow: modules that hold nearly all parameters and use them only while they are called.

Their weights can be divided among processes, gathered before a call and freed after it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.module_tracker import ModuleTracker

from flowgmm_cli.bijection import Bijection

_MIN_SHARE = 0.1  # size of a block as a share of the largest; a message for a smaller one does not pay


@torch.no_grad()
def find_blocks(flow: nn.Module, x: Tensor) -> list[nn.Module]:
    """Find disjoint modules that hold nearly all parameters and use them only while they are called.

    Parameters in no block are few, or are used by other modules than their owner. A coupling of a
    `CouplingStack`, for example, is never called itself, but its network is. `x` is a few rows.
    """
    recorder = _CallRecorder()
    with recorder.tracker, recorder:
        flow(x)
    root = type(flow).__name__  # as the tracker names modules
    names = {module: f"{root}.{name}" for name, module in flow.named_modules()}
    called = {module for module, name in names.items() if name in recorder.called}

    def owns_its_parameters(module: nn.Module) -> bool:
        """Return True if its parameters are used during its calls and at no other time."""
        users = (recorder.used_in.get(parameter, {names[module]}) for parameter in module.parameters())
        return all(names[module] in calls for calls in users)

    blocks = [module for module in _candidates(flow, called) if owns_its_parameters(module)]
    owners = Counter(parameter for block in blocks for parameter in block.parameters())
    blocks = [block for block in blocks if all(owners[parameter] == 1 for parameter in block.parameters())]
    largest = max((_size(block) for block in blocks), default=0)
    return [block for block in blocks if _size(block) >= _MIN_SHARE * largest]


def _candidates(module: nn.Module, called: set[nn.Module]) -> Iterator[nn.Module]:
    """Innermost bijections that are called, and the outermost modules outside of any bijection."""
    for child in module.children():
        has_inner = any(isinstance(part, Bijection) for part in child.modules() if part is not child)
        if child in called and not has_inner:
            if _size(child):
                yield child
        else:
            yield from _candidates(child, called)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim)


class _CallRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records which modules are called, and during which calls each parameter is used, by their names."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tracker = ModuleTracker()
        self.called: set[str] = set()
        self.used_in: dict[nn.Parameter, set[str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        calls = set(self.tracker.parents)
        self.called |= calls
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, nn.Parameter):
                self.used_in[leaf] = self.used_in.get(leaf, calls) & calls
        return func(*args, **(kwargs or {}))

"""One node of autograd's graph in place of many: when it may be, and how its gradient is differentiated."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def unwatched(*tensors: Tensor) -> bool:
    """Whether nothing looks into the operations on these tensors: no subclass, compiler or `torch.func`."""
    if any(type(one) is not Tensor and type(one) is not nn.Parameter for one in tensors):
        return False
    return not (torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active())


def differentiable(
    parts: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    slopes: Sequence[Tensor],
    needed: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients that have gradients themselves, by way of the many nodes, which know how to go on.

    Args:
        parts: the same function of the inputs, in operations of PyTorch.
        inputs: of the node.
        slopes: gradient of each output.
        needed: of which inputs a gradient is asked.
    """
    asked = [one for one, wanted in zip(inputs, needed, strict=True) if wanted]
    pairs = zip(parts(*inputs), slopes, strict=True)
    outputs, own = zip(*(pair for pair in pairs if pair[0].requires_grad), strict=True)
    found = iter(torch.autograd.grad(outputs, asked, own, create_graph=True))
    return [next(found) if wanted else None for wanted in needed]

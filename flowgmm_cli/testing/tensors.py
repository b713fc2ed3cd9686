"""Comparisons of tensors, and of the modules that hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

_REGISTERED = ("_parameters", "_buffers", "_modules")


def difference(actual: Tensor, expected: Tensor) -> float:
    """Return the largest absolute difference, relative to 1 + max |expected|; infinite after a NaN."""
    if actual.shape != expected.shape:
        return float("inf")
    if not actual.numel():
        return 0.0
    actual, expected = actual.detach(), expected.detach()
    error = float((actual - expected).abs().max() / (1 + expected.abs().max()))
    return error if error == error else float("inf")


def diff_tensors(state: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """List the names whose tensors differ in any bit, or that only one of the states has."""
    return [
        name
        for name in {**state, **other}
        if name not in state or name not in other or not torch.equal(state[name], other[name])
    ]


def find_unregistered(module: nn.Module) -> Iterator[str]:
    """Yield the attributes that hold tensors which are neither parameters nor buffers."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _REGISTERED and _holds_tensor(value):
                yield f"{prefix}.{name}" if prefix else name


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return isinstance(value, Tensor)


def memory_problems(state: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that cannot be saved and restored separately: views, and strided tensors.

    Tied tensors, the same tensor under two names, are fine.
    """
    problems = [f"`{name}` is not contiguous" for name, tensor in state.items() if not tensor.is_contiguous()]
    owners: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in state.items():
        if not tensor.numel() or tensor.device.type == "meta":
            continue
        owner, other = owners.setdefault(tensor.untyped_storage().data_ptr(), (name, tensor))
        if (tensor.data_ptr(), tensor.shape, tensor.stride()) != (
            other.data_ptr(), other.shape, other.stride(),
        ):  # fmt: skip
            problems.append(f"`{name}` is a view of the memory of `{owner}`")
    return problems


@contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Let `torch.autocast("meta", ...)` do nothing inside the block; torch refuses that device.

    Layers that need full precision switch autocast off for the device of their input.
    """
    autocast: Any = torch.amp.autocast_mode.autocast
    init, enter, leave = autocast.__init__, autocast.__enter__, autocast.__exit__

    def init_unless_meta(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        self.on_meta = device_type == "meta"
        if not self.on_meta:
            init(self, device_type, *args, **kwargs)

    with mock.patch.multiple(
        autocast,
        __init__=init_unless_meta,
        __enter__=lambda self: self if self.on_meta else enter(self),
        __exit__=lambda self, *error: None if self.on_meta else leave(self, *error),
    ):
        yield

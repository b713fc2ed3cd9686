"""Small helpers for tensors and what holds them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_REGISTERED = ("_parameters", "_buffers", "_modules")


def difference(got: Tensor, want: Tensor) -> float:
    """Largest absolute difference over 1 + the largest magnitude wanted; infinite if anything is NaN."""
    if got.shape != want.shape:
        return float("inf")
    if not got.numel():
        return 0.0
    got, want = got.detach(), want.detach()
    error = float((got - want).abs().max() / (1 + want.abs().max()))
    return error if error == error else float("inf")


def unregistered_tensors(module: nn.Module) -> Iterator[str]:
    """Names of attributes that hold tensors which are neither parameters nor buffers."""
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _REGISTERED and _holds_tensor(value):
                yield f"{prefix}.{name}" if prefix else name


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Tensor):
        return True
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    return isinstance(value, dict) and any(map(_holds_tensor, value.values()))


def memory_faults(state: dict[str, Tensor]) -> list[str]:
    """What keeps tensors of a state from being saved and restored by themselves.

    Tied tensors, one and the same under two names, are fine.
    """
    faults = [f"`{name}` is not contiguous" for name, one in state.items() if not one.is_contiguous()]
    owners: dict[int, tuple[str, Tensor]] = {}
    for name, one in state.items():
        if not one.numel() or one.device.type == "meta":
            continue
        earlier, other = owners.setdefault(one.untyped_storage().data_ptr(), (name, one))
        same = (one.data_ptr(), one.shape, one.stride()) == (other.data_ptr(), other.shape, other.stride())
        if not same:
            faults.append(f"`{name}` is a view of the memory of `{earlier}`")
    return faults


def same_tensors(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Whether two states are equal to the last bit."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Let `torch.autocast("meta", ...)` do nothing inside the block; torch refuses that device.

    Layers that switch autocast off for what needs precision do so for the device of their input.
    """
    kind = torch.amp.autocast_mode.autocast
    names = ("__init__", "__enter__", "__exit__")
    originals = {name: getattr(kind, name) for name in names}

    def begin(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        self.on_meta = device_type == "meta"
        if not self.on_meta:
            originals["__init__"](self, device_type, *args, **kwargs)

    def enter(self: Any) -> Any:
        return self if self.on_meta else originals["__enter__"](self)

    def leave(self: Any, *args: Any) -> Any:
        return None if self.on_meta else originals["__exit__"](self, *args)

    for name, method in zip(names, (begin, enter, leave), strict=True):
        setattr(kind, name, method)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(kind, name, original)

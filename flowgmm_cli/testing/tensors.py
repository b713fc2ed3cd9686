"""Comparisons of tensors and of the modules that hold them, and a small model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from flowgmm_cli.flows.layers.linear import LULinear
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.mixture.unknown_head import UnknownHead
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.testing.checks import expect

_REGISTERED = ("_parameters", "_buffers", "_modules")


def expect_close(actual: Tensor, expected: Tensor, tolerance: float, problem: str) -> None:
    """Raise an `AssertionError` if a difference, relative to 1 + max |expected|, exceeds the tolerance."""
    if actual.shape == expected.shape:
        error = float((actual - expected).detach().abs().max() / (1 + expected.detach().abs().max()))
    else:
        error = math.inf
    expect(error <= tolerance, f"{problem} by {error:.2g}; {tolerance:g} is allowed")


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
                yield f"{prefix}.{name}".lstrip(".")


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_holds_tensor, value))
    if isinstance(value, dict):
        return any(map(_holds_tensor, value.values()))
    return isinstance(value, Tensor)


@contextmanager
def autocast_on_meta() -> Iterator[None]:
    """Let `torch.autocast("meta", ...)` do nothing inside the block; torch refuses that device.

    Layers that need full precision switch autocast off for the device of their input.
    """
    autocast: Any = torch.amp.autocast_mode.autocast
    init = autocast.__init__

    def init_for_cpu(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:
        init(self, "cpu" if device_type == "meta" else device_type, *args, **kwargs)

    with mock.patch.object(autocast, "__init__", init_for_cpu):
        yield


def toy_model(features: int = 4, classes: int = 3, unknown: int = 0) -> FlowMixture:
    """Make a linear flow and a mixture, both with parameters; the classes lie on the first axis, 4 apart.

    To the head for unknown kinds, rows far from all classes are rather of such a kind.
    """
    flow, generator = LULinear(features), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    means = torch.zeros(classes, features)
    means[:, 0] = 4.0 * (torch.arange(classes) - (classes - 1) / 2)
    mixture = GaussianMixture(means, learn_means=True, learn_scales=True)
    head = UnknownHead(features, classes=classes, count=unknown) if unknown else None
    if head:
        head.gamma.fill_(0.05)
        head.centres = flow.inverse(means).detach()
        head.weight = torch.cat([4 * torch.eye(classes), torch.zeros(unknown, classes)])
    return FlowMixture(flow, mixture, head)

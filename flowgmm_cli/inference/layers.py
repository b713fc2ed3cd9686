"""The steps of which an invertible map consists, found without knowing what kinds there are."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.flows.layers.coupling import split_halves
from flowgmm_cli.flows.multiscale import MultiScale

_AT_ONCE = 128  # rows of a Jacobian taken at once: a convolution keeps many numbers of each


@dataclass(frozen=True)
class Step:
    """One step of the way from the feature matrix to the latent.

    Attributes:
        name: where it is and what it is, such as `flow.layers.0.couplings.2 AffineCoupling`.
        module: the map of rows `(N, D)`.
        inexact: why it cannot be undone, by its own account; '' if it can.
        shape: what the first numbers of its result are, such as `(channels, height, width)`; the others are
            pieces that were factored out. Empty where the result is a plain vector.
    """

    name: str
    module: nn.Module
    inexact: str = ""
    shape: tuple[int, ...] = ()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply it."""
        z, log_det = self.module(x)
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Undo it."""
        return cast(Tensor, self.module.inverse(z))  # type: ignore[operator]


class HeadBijection(Bijection):
    """A map of arrays as one of vectors: it takes the first numbers of a row and leaves the others alone.

    Args:
        module: maps `(N, *shape)` to `(N, *result)` with as many numbers.
        shape: see above.
        result: see above.
    """

    def __init__(self, module: nn.Module, shape: tuple[int, ...], result: tuple[int, ...]) -> None:
        super().__init__()
        self.module = module
        self.shape, self.result = shape, result
        self.size = math.prod(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to the same shape, with the log-determinant."""
        head, log_det = self.module(x[:, : self.size].reshape(len(x), *self.shape))
        return torch.cat([head.flatten(1), x[:, self.size :]], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Undo `forward`."""
        head = self.module.inverse(z[:, : self.size].reshape(len(z), *self.result))  # type: ignore[operator]
        return torch.cat([head.flatten(1), z[:, self.size :]], dim=1)


def list_steps(module: nn.Module, x: Tensor, name: str) -> list[Step]:
    """The steps of a map, first to last; a map of which nothing more is known is a single step.

    A `Sequential` consists of its layers, a `MultiScale` of those of its scales, which leave alone what was
    factored out before: this stands behind what goes on, as in the latent. Of any other map a list of
    bijections in it is taken for its steps if these, one after the other, give for the rows `x` what the map
    itself gives, and so is every part of a part.
    """
    if isinstance(module, FlatFlow):
        return list(_array_steps(module, x, name))
    return list(_steps(module, x, name))


@torch.no_grad()
def _array_steps(flow: FlatFlow, x: Tensor, name: str) -> Iterator[Step]:
    """Steps of a flow of images, each as a map of vectors."""
    inner = flow.flow
    scales: list[nn.Module] = list(inner.scales) if isinstance(inner, MultiScale) else [inner]
    if not all(isinstance(scale, Sequential) for scale in scales):
        yield Step(f"{name} {type(inner).__name__}", flow)
        return
    head = flow.unflatten(x[:1])[0]
    for index, scale in enumerate(scales):
        if index:
            head, _ = split_halves(head)
        label = f"{name}.scales.{index}" if isinstance(inner, MultiScale) else name
        for place, layer in _leaves(scale, label):
            shape = tuple(head.shape[1:])
            head = _value(layer, head)
            result = tuple(head.shape[1:])
            inexact = str(getattr(layer, "inexact", ""))
            yield Step(
                f"{place} {type(layer).__name__}", HeadBijection(layer, shape, result), inexact, result
            )


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The layers of a `Sequential`, and of those in it, with their places."""
    if not isinstance(module, Sequential):
        yield name, module
        return
    for index, layer in enumerate(module.layers):
        yield from _leaves(layer, f"{name}.{index}")


def _steps(module: nn.Module, x: Tensor, name: str) -> Iterator[Step]:
    found = _parts(module, x)
    if found is None:
        yield Step(f"{name} {type(module).__name__}", module, str(getattr(module, "inexact", "")))
        return
    label, parts = found
    for index, part in enumerate(parts):
        yield from _steps(part, x, f"{name}.{label}{index}")
        x = _value(part, x)


def _parts(module: nn.Module, x: Tensor) -> tuple[str, list[nn.Module]] | None:
    for label, child in module.named_children():
        parts = list(child) if isinstance(child, nn.ModuleList) else []
        if not parts or not all(isinstance(part, Bijection) for part in parts):
            continue
        if type(module).forward is Sequential.forward and label == "layers":
            return "", parts
        try:
            value = x
            for part in parts:
                value = _value(part, value)
            whole = _value(module, x)
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue
        if value.shape == whole.shape and torch.allclose(
            value.double(), whole.double(), rtol=1e-4, atol=1e-5, equal_nan=True
        ):
            return f"{label}.", parts
    return None


@torch.no_grad()
def _value(module: nn.Module, x: Tensor) -> Tensor:
    z: Tensor = module(x)[0]
    return z


def to_float64(module: nn.Module) -> nn.Module:
    """A copy of a map in float64, on the CPU, in evaluation mode, without gradients to its weights."""
    return copy.deepcopy(module).cpu().double().eval().requires_grad_(False)


def jacobian(module: nn.Module, row: Tensor) -> Tensor:
    """The Jacobian `(d_out, d_in)` of a map of rows at one row `(d_in,)`, by autograd.

    The row is given once for each number of the result, and each copy is asked for the gradient of one of
    them, which is right as long as rows do not depend on each other.
    """
    with torch.no_grad():
        width = module(row[None])[0].shape[1]
    parts = [torch.arange(start, min(start + _AT_ONCE, width)) for start in range(0, width, _AT_ONCE)]
    found = [_gradients(module, row, part) for part in parts]
    return torch.cat(found) if found else torch.zeros(0, len(row), dtype=row.dtype)


def _gradients(module: nn.Module, row: Tensor, places: Tensor) -> Tensor:
    """The rows `places` of the Jacobian."""
    copies = row.detach().repeat(len(places), 1).requires_grad_(True)
    with torch.enable_grad():
        z, _ = module(copies)
        if not z.requires_grad:  # a constant
            return torch.zeros_like(copies).detach()
        chosen = z[torch.arange(len(places)), places]
        (gradient,) = torch.autograd.grad(chosen.sum(), copies, allow_unused=True)
    return torch.zeros_like(copies).detach() if gradient is None else gradient.detach()

"""The steps of an invertible map, and its Jacobian."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from flowgmm_cli.api import iterate_batches
from flowgmm_cli.bijection import Bijection, Sequential
from flowgmm_cli.flows.layers.coupling import split_halves
from flowgmm_cli.flows.multiscale import FlatFlow, MultiScale

Map = TypeVar("Map", bound=nn.Module)
_JACOBIAN_ROWS = 128  # rows of a Jacobian in one batch: a convolution keeps many numbers of each


@dataclass(frozen=True)
class Step:
    """One step from the feature matrix to the latent, a map of rows `(N, D)`.

    `shape` is that of the first numbers of its result, such as `(channels, height, width)`; the others were
    factored out. It is empty if the result is a plain vector.
    """

    name: str  # its path and class, such as `flow.layers.0.couplings.2 AffineCoupling`
    module: Any  # the map
    inexact: str = ""  # its own reason for having no exact inverse; '' if it has one
    shape: tuple[int, ...] = ()


class HeadBijection(Bijection):
    """A map of arrays `(N, *shape)` to `(N, *result)` as a map of vectors: it keeps all further numbers."""

    def __init__(self, module: Any, shape: tuple[int, ...], result: tuple[int, ...]) -> None:
        super().__init__()
        self.module: Any = module
        self.shape, self.result = shape, result
        self.size = math.prod(shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map `(N, D)` to the same shape, with the log-determinant."""
        head, log_det = self.module(x[:, : self.size].reshape(len(x), *self.shape))
        return torch.cat([head.flatten(1), x[:, self.size :]], dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Invert `forward`."""
        head = self.module.inverse(z[:, : self.size].reshape(len(z), *self.result))
        return torch.cat([head.flatten(1), z[:, self.size :]], dim=1)


def list_steps(module: nn.Module, x: Tensor, name: str) -> list[Step]:
    """Return the steps of a map, first to last; an unknown map is a single step.

    The steps of a `Sequential` are its layers, those of a `MultiScale` the layers of its scales, which keep
    the numbers that were factored out before; these come last, as in the latent. In any other map, a list of
    bijections counts as its steps if applying them in order to the rows `x` gives the result of the map. The
    same holds for each step.
    """
    return list(_image_steps(module, x, name) if isinstance(module, FlatFlow) else _steps(module, x, name))


@torch.no_grad()
def _image_steps(flow: FlatFlow, x: Tensor, name: str) -> Iterator[Step]:
    """Steps of a flow of images, each as a map of vectors."""
    inner = flow.flow
    scales: list[nn.Module] = list(inner.scales) if isinstance(inner, MultiScale) else [inner]
    if not all(isinstance(scale, Sequential) for scale in scales):
        yield Step(f"{name} {type(inner).__name__}", flow)
        return
    head = flow.unflatten(x[:1])
    for index, scale in enumerate(scales):
        if index:
            head, _ = split_halves(head)
        label = f"{name}.scales.{index}" if isinstance(inner, MultiScale) else name
        for path, layer in _leaves(scale, label):
            shape = tuple(head.shape[1:])
            head = layer(head)[0]
            result = tuple(head.shape[1:])
            yield _name_step(path, layer, HeadBijection(layer, shape, result), result)


def _name_step(path: str, layer: nn.Module, module: nn.Module, shape: tuple[int, ...] = ()) -> Step:
    return Step(f"{path} {type(layer).__name__}", module, str(getattr(layer, "inexact", "")), shape)


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Layers of nested `Sequential`s with their paths."""
    if not isinstance(module, Sequential):
        yield name, module
        return
    for index, layer in enumerate(module.layers):
        yield from _leaves(layer, f"{name}.{index}")


@torch.no_grad()
def _steps(module: nn.Module, x: Tensor, name: str) -> Iterator[Step]:
    label, parts = _find_parts(module, x)
    if not parts:
        yield _name_step(name, module, module)
    for index, part in enumerate(parts):
        yield from _steps(part, x, f"{name}.{label}{index}")
        x = part(x)[0]


def _find_parts(module: nn.Module, x: Tensor) -> tuple[str, list[nn.Module]]:
    """Return the name and modules of the list of bijections that compose a map, or empty ones."""
    for label, child in module.named_children():
        parts = list(child) if isinstance(child, nn.ModuleList) else []
        if not parts or not all(isinstance(part, Bijection) for part in parts):
            continue
        if type(module).forward is Sequential.forward and label == "layers":
            return "", parts
        try:
            value = x
            for part in parts:
                value = part(value)[0]
            whole = module(x)[0]
        except (RuntimeError, ValueError, TypeError, IndexError):
            continue
        if value.shape == whole.shape and torch.allclose(
            value.double(), whole.double(), rtol=1e-4, atol=1e-5, equal_nan=True
        ):
            return f"{label}.", parts
    return "", []


def to_float64(module: Map) -> Map:
    """Return a copy of a map in float64, on the CPU, in evaluation mode, without gradients of its weights."""
    return copy.deepcopy(module).cpu().double().eval().requires_grad_(False)


def jacobian(module: nn.Module, row: Tensor) -> Tensor:
    """Return the Jacobian `(d_out, d_in)` of a map of rows at one row `(d_in,)`, by autograd.

    The batch repeats the row for each number of the result; each copy yields the gradient of one of them.
    This is right as long as rows do not depend on each other.
    """
    with torch.no_grad():
        width = module(row[None])[0].shape[1]
    result = row.new_zeros(width, len(row))
    for part in iterate_batches(width, _JACOBIAN_ROWS):
        copies = row.detach().repeat(part.stop - part.start, 1).requires_grad_(True)
        with torch.enable_grad():
            z, _ = module(copies)
            if not z.requires_grad:  # it is constant
                continue
            diagonal = z.diagonal(part.start)
            (gradient,) = torch.autograd.grad(diagonal.sum(), copies, allow_unused=True)
        if gradient is not None:
            result[part] = gradient
    return result

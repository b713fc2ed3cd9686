"""The steps of which an invertible map consists, found without knowing what kinds there are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from flowgmm_cli.bijection import Bijection, Sequential


@dataclass(frozen=True)
class Step:
    """One step of the way from the feature matrix to the latent.

    Attributes:
        name: where it is and what it is, such as `flow.layers.0.couplings.2 AffineCoupling`.
        module: the map.
        inexact: why it cannot be undone, by its own account; '' if it can.
    """

    name: str
    module: nn.Module
    inexact: str = ""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply it."""
        z, log_det = self.module(x)
        return z, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Undo it."""
        return cast(Tensor, self.module.inverse(z))  # type: ignore[operator]


def steps_of(module: nn.Module, x: Tensor, name: str) -> list[Step]:
    """The steps of a map, first to last; a map of which nothing more is known is a single step.

    A `Sequential` consists of its layers. Of any other map a list of bijections in it is taken for its steps
    if these, one after the other, give for the rows `x` what the map itself gives, and so is every part of a
    part.
    """
    return list(_steps(module, x, name))


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


def double(module: nn.Module) -> nn.Module:
    """A copy of a map in float64, on the CPU, in evaluation mode, without gradients to its weights."""
    return copy.deepcopy(module).cpu().double().eval().requires_grad_(False)


def jacobian(module: nn.Module, row: Tensor) -> Tensor:
    """The Jacobian `(d_out, d_in)` of a map of rows at one row `(d_in,)`, by autograd, in one pass.

    The row is given once for each number of the result, and each copy is asked for the gradient of one of
    them, which is right as long as rows do not depend on each other.
    """
    with torch.no_grad():
        width = module(row[None])[0].shape[1]
    copies = row.detach().repeat(width, 1).requires_grad_(True)
    with torch.enable_grad():
        z, _ = module(copies)
        if not z.requires_grad:  # a constant
            return torch.zeros(width, len(row), dtype=row.dtype)
        (gradient,) = torch.autograd.grad(z.diagonal().sum(), copies, allow_unused=True)
    return torch.zeros_like(copies) if gradient is None else gradient.detach()

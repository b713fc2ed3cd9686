"""Losses that are not finite: no optimiser step is taken with them, and the cause is named."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from flowgmm_cli.api import Latents
from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.seeds import seeded_layers
from flowgmm_cli.training.step import TrainingStep

_NEVER = torch.iinfo(torch.int64).max


class NonFiniteGuard:
    """Skips the first step whose gradient is not finite and all after it, on the device.

    The optimiser reads `found_inf`, the signal of gradient scalers, so that the weights stay those before
    that step and the host does not wait for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._first = torch.full((), _NEVER, dtype=torch.int64, device=device)

    @staticmethod
    def poison(loss: Tensor) -> Tensor:
        """Return the loss, or NaN in place of a loss that is not finite, so that its gradients show it."""
        return loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan)

    def watch(self, optimiser: Any, step: int, norm: Tensor) -> None:
        """Check the gradient norm of a step before the optimiser takes it."""
        is_bad = ~norm.detach().isfinite()
        self._first = torch.minimum(self._first, torch.where(is_bad, step, _NEVER))
        optimiser.found_inf = (self._first != _NEVER).float()

    def first_bad_step(self) -> int | None:
        """First step that was skipped; waits for the device."""
        first = int(self._first)
        return None if first == _NEVER else first


def explain(
    step_module: TrainingStep,
    teacher: FlowMixture,
    rows: tuple[Tensors, Tensors],
    generator: torch.Generator,
    *,
    step: int,
    epoch: float,
) -> RunFailedError:
    """Replay a step with the current weights and name the first module that is not finite.

    `rows` are the labelled and unlabelled rows of the step.
    """
    if not all(part.is_finite() for part in rows):
        return _failure(step, "the rows themselves are not finite")
    culprits: list[str] = []

    def check(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not culprits and not _is_finite(output):  # a module ends after those in it: this is the innermost
            culprits.append(f"{name} ({type(module).__name__})" if name else "the mixture")

    modules = step_module.model.named_modules()
    handles = [module.register_forward_hook(partial(check, name)) for name, module in modules]
    try:
        with seeded_layers(generator):
            terms = step_module(teacher, *rows, generator, step=step, epoch=epoch)
    finally:
        for handle in handles:
            handle.remove()
    if culprits:
        return _failure(step, f"the first output that is not finite is that of {culprits[0]}")
    for name, value in terms.items():
        if not value.isfinite():
            return _failure(step, f"the term loss.{name} is not finite, though every layer is")
    step_module.zero_grad()
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for name, parameter in step_module.model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return _failure(step, f"the gradient of {name} is not finite, though the loss is")
    return _failure(step, "a replay of the step is finite, so the fault does not repeat itself")


def _failure(step: int, cause: str) -> RunFailedError:
    return RunFailedError(
        f"the loss is not finite at step {step} (batch {step}): {cause}",
        hint="lower train.lr or train.clip_norm, or add `{use: clip}` to data.transforms; "
        "earlier checkpoints are kept",
    )


def _is_finite(output: Any) -> bool:
    leaves = tree_leaves(vars(output) if isinstance(output, Latents) else output)
    return all(bool(leaf.isfinite().all()) for leaf in leaves if isinstance(leaf, Tensor))

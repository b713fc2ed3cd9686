"""What to do when a loss is not finite: no step is taken with it, and the place is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.api import Latents
from flowgmm_cli.errors import RunFailedError
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.random_layers import seeded_layers
from flowgmm_cli.training.step import StepInput, TrainingStep

_NEVER = torch.iinfo(torch.int64).max


class Guard:
    """Skips the first step whose loss or gradient is not finite and all after it, on the device.

    The optimiser is told through `found_inf`, the signal gradient scalers use, so that the weights stay those
    before that step, without the host waiting for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self.first_bad = torch.full((), _NEVER, dtype=torch.int64, device=device)

    def watch(self, optimiser: torch.optim.Optimizer, step: int, loss: Tensor, norm: Tensor) -> None:
        """Look at a step before the optimiser takes it."""
        bad = ~(loss.detach().isfinite() & norm.detach().isfinite())
        self.first_bad = torch.minimum(self.first_bad, torch.where(bad, step, _NEVER))
        optimiser.found_inf = (self.first_bad != _NEVER).float()  # type: ignore[attr-defined]

    def first_bad_step(self) -> int | None:
        """The first step that was skipped; this waits for the device."""
        first = int(self.first_bad)
        return None if first == _NEVER else first


def explain(
    step_module: TrainingStep,
    teacher: FlowMixture,
    rows: StepInput,
    generator: torch.Generator,
) -> RunFailedError:
    """Replay a step with the current weights and name the first module that is not finite."""
    if not (rows.labelled.finite() and rows.unlabelled.finite()):
        return _failure(rows.step, "the rows themselves are not finite")
    found: list[str] = []

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _finite(output):
                # a module ends after those in it, so this is the innermost
                found.append(f"{name} ({type(module).__name__})" if name else "the mixture")

        return hook

    handles = [module.register_forward_hook(look(name)) for name, module in step_module.model.named_modules()]
    try:
        with seeded_layers(generator):
            terms = step_module(teacher, rows, generator)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return _failure(rows.step, f"the first output that is not finite is that of {found[0]}")
    for name, value in terms.items():
        if not value.isfinite():
            return _failure(rows.step, f"the term loss.{name} is not finite, though every layer is")
    step_module.zero_grad()
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for name, parameter in step_module.model.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return _failure(rows.step, f"the gradient of {name} is not finite, though the loss is")
    return _failure(rows.step, "a replay of the step is finite, so the fault does not repeat itself")


def _failure(step: int, what: str) -> RunFailedError:
    return RunFailedError(
        f"the loss is not finite at step {step} (batch {step}): {what}",
        hint="lower train.lr or train.clip_norm, or add `{use: clip}` to data.transforms; "
        "what was saved before is kept",
    )


def _finite(output: Any) -> bool:
    if isinstance(output, Tensor):
        return bool(output.isfinite().all())
    if isinstance(output, Latents):
        return _finite((output.z, output.log_det, output.class_log_prob))
    if isinstance(output, tuple | list):
        return all(_finite(one) for one in output)
    if isinstance(output, Mapping):
        return all(_finite(one) for one in output.values())
    return True

"""Optimiser, learning-rate schedules, gradient clipping and the averaged teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.fsdp import full_tensor, is_sharded

_START = 1 / 25  # first learning rate of one_cycle, as a share of the highest
_END = 1e-4  # last learning rate, likewise


def create_optimiser(
    model: FlowMixture, config: TrainConfig, parameters: Mapping[str, nn.Parameter] | None = None
) -> torch.optim.Adam:
    """Create AdamW (Loshchilov and Hutter, 2019), or Adam, whose weight decay is a term of the loss.

    Weight matrices of the flow decay; biases and the mixture do not. `parameters` are the tensors to optimise
    by name; None = those of the model.
    """
    named = dict(model.named_parameters()) if parameters is None else parameters
    groups: list[dict[str, Any]] = [
        {"params": [named[name] for name in names], "weight_decay": decay}
        for names, decay in zip(_names(model), (config.weight_decay, 0.0), strict=True)
        if names
    ]
    kind = torch.optim.Adam if config.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr, fused=True)


def optimiser_parameters(model: FlowMixture) -> list[nn.Parameter]:
    """Trained parameters in the order in which the optimiser numbers them."""
    named = dict(model.named_parameters())
    return [named[name] for names in _names(model) for name in names]


def _names(model: FlowMixture) -> tuple[list[str], list[str]]:
    """Names of the trained parameters with weight decay, and of those without."""
    trained = [(name, value.ndim) for name, value in model.named_parameters() if value.requires_grad]
    decayed = [name for name, ndim in trained if name.startswith("flow.") and ndim > 1]
    return decayed, [name for name, _ in trained if name not in decayed]


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Learning rate of a step, a function of its number alone, so that resuming needs no state.

    `one_cycle` rises over the warm-up and falls along a cosine (Smith and Topin, 2019); `cosine` is the same
    fall after a linear warm-up from 0; `constant` stays; `steps` falls to a tenth at half and again at four
    fifths of all steps, as the paper does on its synthetic sets.
    """
    warm_up = round(config.warmup * steps)
    if step < warm_up:
        fraction = (step + 1) / warm_up
        if config.schedule == "one_cycle":
            return config.lr * (_START + (1 - _START) * _half_cosine(fraction))
        return config.lr * fraction
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "steps":
        return config.lr * 0.1 ** ((step >= 0.5 * steps) + (step >= 0.8 * steps))
    fraction = (step - warm_up) / max(1, steps - 1 - warm_up)
    return config.lr * (1 - (1 - _END) * _half_cosine(min(1.0, fraction)))


def _half_cosine(fraction: float) -> float:
    return (1 - math.cos(math.pi * fraction)) / 2


def gradient_norm(model: nn.Module) -> Tensor:
    """Total norm of the gradients, sharded or not."""
    grads = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    sharded = [grad for grad in grads if is_sharded(grad)]
    norm = torch.nn.utils.get_total_norm([grad for grad in grads if not is_sharded(grad)])
    return torch.hypot(norm, full_tensor(torch.nn.utils.get_total_norm(sharded))) if sharded else norm


def clip_gradients(optimiser: Any, norm: Tensor, max_norm: float | None) -> None:
    """Let the next step of a fused optimiser scale gradients of a total `norm` to at most `max_norm`.

    It divides them by `grad_scale` as it reads them, which saves a pass over all gradients.
    """
    if max_norm is not None:
        optimiser.grad_scale = ((norm + 1e-6) / max_norm).clamp(min=1.0).float()


def create_ema_model(model: FlowMixture) -> FlowMixture:
    """Copy the model as a teacher that takes no gradient."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_ema(teacher: Sequence[Tensor], model: Sequence[Tensor], *, decay: float, step: int) -> None:
    """Move the teacher's weights towards the model's (Tarvainen and Valpola, 2017).

    The decay is at most `(1 + step) / (10 + step)`, small at first, so that the average forgets the initial
    weights; 0 copies the model. `step` counts the optimiser steps before this one.
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(teacher), list(model), weight)

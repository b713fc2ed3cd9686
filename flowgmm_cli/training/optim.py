"""Optimiser, learning rate and the averaged teacher."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.fsdp import own

_START = 1 / 25  # where warm-up starts and annealing ends, as a share of the highest rate
_END = 1e-4


class _WithoutCompiler:
    """Methods of torch's optimisers without decorators that import its compiler: a second or two of a run."""

    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict: Any = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict: Any = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class _Adam(_WithoutCompiler, torch.optim.Adam):
    """See `make_optimiser`."""


class _AdamW(_WithoutCompiler, torch.optim.AdamW):
    """See `make_optimiser`."""


def make_optimiser(
    model: FlowMixture, config: TrainConfig, parameters: Mapping[str, nn.Parameter] | None = None
) -> torch.optim.Adam:
    """AdamW (Loshchilov and Hutter, 2019) or Adam, whose decay is a term of the loss.

    Weights of matrices decay, biases and the mixture do not.

    Args:
        model: whose parameters are trained.
        config: kind, rate, decay.
        parameters: what stands for them in this process, by name; None = they themselves.
    """
    decayed, free = _names(model)
    given = dict(model.named_parameters()) if parameters is None else parameters
    groups: list[dict[str, Any]] = [
        {"params": [given[name] for name in decayed], "weight_decay": config.weight_decay},
        {"params": [given[name] for name in free], "weight_decay": 0.0},
    ]
    kind = _Adam if config.optimiser == "adam" else _AdamW
    return kind([group for group in groups if group["params"]], lr=config.lr, fused=True)


def in_order(model: FlowMixture) -> list[nn.Parameter]:
    """The trained parameters in the order in which an optimiser numbers them."""
    named = dict(model.named_parameters())
    return [named[name] for names in _names(model) for name in names]


def _names(model: FlowMixture) -> tuple[list[str], list[str]]:
    """Names of the trained parameters that decay, and of those that do not."""
    decayed: list[str] = []
    free: list[str] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = name.startswith("flow.") and parameter.ndim > 1
            (decayed if decays else free).append(name)
    return decayed, free


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate of a step, a function of its number alone, so that nothing has to be saved to resume it.

    `one_cycle` rises over the warm-up and falls along a cosine (Smith and Topin, 2019); `cosine` is the same
    fall after a linear warm-up from 0; `constant` stays; `steps` falls to a tenth at half and again at four
    fifths of all steps, as the paper does on its synthetic sets.
    """
    warm = round(config.warmup * steps)
    if step < warm:
        done = (step + 1) / warm
        if config.schedule == "one_cycle":
            return config.lr * (_START + (1 - _START) * _cosine(done))
        return config.lr * done
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "steps":
        return config.lr * 0.1 ** ((step >= 0.5 * steps) + (step >= 0.8 * steps))
    done = (step - warm) / max(1, steps - 1 - warm)
    return config.lr * (1 - (1 - _END) * _cosine(min(1.0, done)))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def make_teacher(model: FlowMixture) -> FlowMixture:
    """A copy of the model that takes no gradient."""
    return copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_teacher(teacher: nn.Module, model: nn.Module, *, decay: float, step: int) -> None:
    """Move the teacher's weights towards the model's (Tarvainen and Valpola, 2017).

    The average is short at first, `(1 + step) / (10 + step)`, so that it does not remember the start.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    mine = [own(one) for one in teacher.parameters()]
    theirs = [own(one) for one in model.parameters()]
    if share == 1:
        torch._foreach_copy_(mine, theirs)
    else:
        torch._foreach_lerp_(mine, theirs, share)


def _cosine(done: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * done)) / 2

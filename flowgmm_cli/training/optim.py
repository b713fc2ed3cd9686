"""Optimiser, learning rate and the averaged teacher."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.adam import Adam, AdamW
from flowgmm_cli.training.fsdp import own
from flowgmm_cli.training.pieces import gathered

_START = 1 / 25  # where warm-up starts and annealing ends, as a share of the highest rate
_END = 1e-4


def make_optimiser(
    model: FlowMixture, config: TrainConfig, parameters: Mapping[str, nn.Parameter] | None = None
) -> Adam:
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
    kind = Adam if config.optimiser == "adam" else AdamW
    shared = all(parameter is given[name] for name, parameter in model.named_parameters() if name in given)
    return kind([group for group in groups if group["params"]], lr=config.lr, gather=shared)


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


def averaged(
    teacher: nn.Module, model: nn.Module, optimiser: Adam | None = None, *, decay: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """The weights of both that a process has, in pairs, for `update_teacher`.

    Those that the optimiser gathered are one. Without a decay, whose average is the model itself, the teacher
    gets these to share with the model, and there is no pair of them.
    """
    mine, theirs = dict(teacher.named_parameters()), dict(model.named_parameters())
    found: tuple[list[Tensor], list[Tensor]] = [], []
    if optimiser is not None and optimiser.weights is not None:
        names = {id(one): name for name, one in theirs.items()}
        together = [names[id(one)] for one in optimiser.parameters]
        pieces = gathered([mine[name] for name in together])
        if pieces is not None:
            if decay == 0:
                for name, one in zip(together, optimiser.parameters, strict=True):
                    mine[name].data = one.data
            else:
                found[0].append(pieces.all)
                found[1].append(optimiser.weights.all)
            theirs = {name: one for name, one in theirs.items() if name not in set(together)}
    found[0].extend(own(mine[name]) for name in theirs)
    found[1].extend(own(one) for one in theirs.values())
    return found


@torch.no_grad()
def update_teacher(teacher: list[Tensor], model: list[Tensor], *, decay: float, step: int) -> None:
    """Move the teacher's weights towards the model's (Tarvainen and Valpola, 2017).

    The average is short at first, `(1 + step) / (10 + step)`, so that it does not remember the start.

    Args:
        teacher, model: their weights, see `averaged`.
        decay: what stays of the average at most.
        step: optimiser steps taken before this one.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    if not teacher:
        return
    if share == 1:
        torch._foreach_copy_(teacher, model)
    else:
        torch._foreach_lerp_(teacher, model, share)


def _cosine(done: float) -> float:
    """0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * done)) / 2

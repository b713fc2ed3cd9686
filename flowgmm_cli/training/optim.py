"""Optimiser, learning rate and the averaged teacher."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.fsdp import own
from flowgmm_cli.training.pieces import Pieces, gathered

_START = 1 / 25  # where warm-up starts and annealing ends, as a share of the highest rate
_END = 1e-4


class _WithoutCompiler:
    """Methods of torch's optimisers without decorators that import its compiler: a second or two of a run."""

    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict: Any = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict: Any = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class Adam(_WithoutCompiler, torch.optim.Adam):
    """torch's Adam, to which all parameters of a group are a single one where that can be.

    A step is then some operations for each group instead of some for each parameter, most of which are
    small. Whoever looks at the parameters, or at the state of one of them, finds both as ever.

    Args:
        groups, options: see `torch.optim.Adam`.
        gather: move the parameters into one piece of memory.

    Attributes:
        parameters: of all groups, first to last.
        weights: the memory of them all; None where they lie here and there.
        slopes: the place of their gradients.
    """

    def __init__(self, groups: list[dict[str, Any]], *, gather: bool, **options: Any) -> None:
        super().__init__(groups, fused=True, **options)
        self.parameters: list[nn.Parameter] = [one for group in self.param_groups for one in group["params"]]
        self.weights = gathered(self.parameters) if gather else None
        self.slopes = None if self.weights is None else Pieces(self.parameters)
        self._moments: dict[int, _Moments | None] = {}

    def load_state_dict(self, state_dict: Any) -> None:
        """See `torch.optim.Optimizer`."""
        super().load_state_dict(state_dict)
        self._moments.clear()

    def _init_group(self, group: dict[str, Any], *lists: list[Tensor]) -> bool:
        """Add what a step works on to lists of parameters, gradients, three moments and steps."""
        index = next(place for place, one in enumerate(self.param_groups) if one is group)
        together = self._together(index)
        if together is None:
            return bool(super()._init_group(group, *lists))  # type: ignore[no-untyped-call]
        weights, slopes, means, squares, steps = lists[0], lists[1], lists[2], lists[3], lists[5]
        for one, found in zip((weights, slopes, means, squares, steps), together, strict=True):
            one.append(found)
        return False

    def _together(self, index: int) -> tuple[Tensor, ...] | None:
        """Weights, gradients, moments and steps of a group, as one tensor each; None if that cannot be."""
        parameters = self.param_groups[index]["params"]
        if self.weights is None or self.slopes is None:
            return None
        start = sum(len(group["params"]) for group in self.param_groups[:index])
        place = slice(start, start + len(parameters))
        if any(
            one.grad is not slope for one, slope in zip(parameters, self.slopes.parts[place], strict=True)
        ):
            # some have no gradient; from now on each counts its own steps
            if self._moments.get(index):
                for one in parameters:
                    self.state[one]["step"] = self.state[one]["step"].clone()
            self._moments[index] = None
        elif index not in self._moments:
            self._moments[index] = _Moments.of(parameters, self.state)
        moments = self._moments[index]
        if moments is None:
            return None
        return (self.weights.span(place), self.slopes.span(place), *moments.tensors())


class AdamW(Adam, torch.optim.AdamW):
    """The same, whose decay is no part of the gradient."""


@dataclass(frozen=True)
class _Moments:
    """The state of a group whose parameters have all taken the same steps.

    Attributes:
        means, squares: of the gradients.
        step: how many.
    """

    means: Pieces
    squares: Pieces
    step: Tensor

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter], state: Any) -> _Moments | None:
        """Move the state of each, if there is one, and let it be a view; None where their steps differ."""
        known = [state[one] for one in parameters if state.get(one)]
        steps = {float(one["step"]) for one in known}
        if known and (len(known) < len(parameters) or len(steps) > 1):
            return None
        means, squares = Pieces(parameters), Pieces(parameters)
        if known:
            means.fill([one["exp_avg"] for one in known])
            squares.fill([one["exp_avg_sq"] for one in known])
        step = torch.full((), steps.pop() if steps else 0.0, device=parameters[0].device)
        for one, mean, square in zip(parameters, means.parts, squares.parts, strict=True):
            state[one] = {"step": step, "exp_avg": mean, "exp_avg_sq": square}
        return cls(means, squares, step)

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same as one tensor each."""
        every = slice(0, len(self.means.parts))
        return self.means.span(every), self.squares.span(every), self.step


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

"""torch's Adam on weights, gradients and moments that lie in one piece of memory each."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.training.pieces import Pieces, gathered


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
        ends = [0, *accumulate(len(group["params"]) for group in self.param_groups)]
        self._places = [slice(start, end) for start, end in pairwise(ends)]
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
        if self.weights is None or self.slopes is None:
            return None
        place = self._places[index]
        parameters, slopes = self.parameters[place], self.slopes.parts[place]
        if any(one.grad is not slope for one, slope in zip(parameters, slopes, strict=True)):
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

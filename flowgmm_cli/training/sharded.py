r"""A model whose rows are divided among processes.

Losses are no sums over rows: some take means of two kinds of rows together, mix rows, or look at the batch as
a whole. So each process has the whole batch, draws the same random numbers and computes the same loss; only
the networks, which cost nearly all of the time, see a share of the rows each, and latents are exchanged. With
P processes and the loss L, the same everywhere, the gradient is

.. math:: \frac{\partial L}{\partial \theta} = \frac{1}{P} \textstyle\sum_p \Big(
          \frac{\partial L}{\partial \theta}\Big|_{outside} + P \,
          \frac{\partial L}{\partial h_p} \frac{\partial h_p}{\partial \theta} \Big)

with :math:`h_p` the latents of process p and *outside* what does not pass through them, such as a repulsion
of means: a mean over the processes, if the gradient of one's own latents is taken P times. That is what one
process has, up to the order of sums. (The pair of conjugate operators is that of Shoeybi et al., 2019.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from flowgmm_cli.api import Latents
from flowgmm_cli.data.lazy_dataset import LazyDataset, load_tensor
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.step import StepInput, TrainingStep
from flowgmm_cli.training.viewing import Forms

Losses = Callable[[FlowMixture, StepInput, torch.Generator], dict[str, Tensor]]
"""From the teacher, a step's rows and its random numbers to the terms of the loss, by name."""


class ShardedModel(FlowMixture):
    """The same flow and mixture, whose calls are shared with the other processes.

    All of them must make the same calls with the same rows.

    Args:
        model: whose parts it takes.
        processes: those that share the rows.

    Attributes:
        inner: what is called with a share: the model, or a compiled form of it.
    """

    inner: Callable[[Tensor], Latents]

    def __init__(self, model: FlowMixture, processes: Processes) -> None:
        super().__init__(model.flow, model.mixture)
        self.inner = super().forward
        self._processes = processes

    def forward(self, x: Tensor) -> Latents:
        """See rows `(N, *shape)`, each process its share; every process gets the latents of all rows."""
        processes, rows = self._processes, len(x)
        if rows < processes.count:
            return self.inner(x)
        mine = _divide(x, processes) if x.requires_grad else x[processes.share(rows)]
        seen = self.inner(mine)
        packed = torch.cat([seen.log_det[:, None].to(seen.class_log_prob), seen.class_log_prob], dim=1)
        every = _join(packed, processes, rows)
        z = cache(lambda: _join(seen.z, processes, rows))
        return _Joined(z, every[:, 0], every[:, 1:])


class _Joined(Latents):
    """Latents of all rows; the vectors, most of the numbers, are exchanged if somebody looks at them."""

    def __init__(self, vectors: Callable[[], Tensor], log_det: Tensor, class_log_prob: Tensor) -> None:
        for name, value in (
            ("vectors", vectors),
            ("log_det", log_det),
            ("class_log_prob", class_log_prob),
        ):
            object.__setattr__(self, name, value)

    @property
    def z(self) -> Tensor:
        """See `Latents`; all processes must look, or none."""
        vectors: Callable[[], Tensor] = self.__dict__["vectors"]
        return vectors()

    def rows(self, index: slice) -> Latents:
        """See `Latents`."""
        return _Joined(cache(lambda: self.z[index]), self.log_det[index], self.class_log_prob[index])


def sharded(model: FlowMixture, processes: Processes) -> FlowMixture:
    """The model itself where there is one process, else a `ShardedModel`."""
    return model if processes.alone else ShardedModel(model, processes)


def losses_of(step_module: TrainingStep, student: FlowMixture, *, mode: bool | str) -> Losses:
    """The losses of a step, of its own student or a sharded one.

    Args:
        step_module: the losses.
        student: its model, or a sharded form of it.
        mode: whether, or in which of torch's modes, to compile; of a sharded student the messages are not.
    """

    def compiled(function: Any) -> Any:
        return torch.compile(function, mode=mode if isinstance(mode, str) else None) if mode else function

    if not isinstance(student, ShardedModel):
        losses: Losses = compiled(step_module)
        return losses
    student.inner = compiled(student.inner)
    return partial(step_module.losses, student)


def by_shares(function: Callable[[Tensor], Tensor], x: Tensor, processes: Processes) -> Tensor:
    """`function(x)`, whose rows depend on one row of `x` each, computed by shares; no gradient passes."""
    if processes.alone or len(x) < processes.count:
        return function(x)
    return processes.together(function(x[processes.share(len(x))]), len(x))


def read(forms: Forms, positions: Tensor | Forms, processes: Processes) -> Forms:
    """Some of the rows, `forms[positions]`; those that stay on the disk are read by one process each.

    Rows of a table larger than memory come with the batch: every process has read them.
    """
    if isinstance(positions, Forms):
        return positions
    lazy = isinstance(forms.x, LazyDataset) or isinstance(forms.inputs, LazyDataset)
    rows = len(positions)
    if processes.alone or not lazy or rows < processes.count:
        return forms[positions]
    mine = forms[positions[processes.share(rows)]]
    copies = {name: one[positions] for name, one in forms.copies.items()}
    if mine.inputs is None:
        return Forms(processes.together(load_tensor(mine.x), rows), None, copies)
    x = forms.x
    whole = x.subset(positions) if isinstance(x, LazyDataset) else x[positions]
    return Forms(whole, processes.together(load_tensor(mine.inputs), rows), copies)


def _join(mine: Tensor, processes: Processes, rows: int) -> Tensor:
    joined: Tensor = _Join.apply(mine, processes, rows)  # type: ignore[no-untyped-call]
    return joined


def _divide(x: Tensor, processes: Processes) -> Tensor:
    divided: Tensor = _Divide.apply(x, processes)  # type: ignore[no-untyped-call]
    return divided


class _Join(torch.autograd.Function):
    """Everyone's rows; the gradient of one's own is taken as often as there are processes."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, processes: Processes, rows: int) -> Tensor:
        ctx.processes, ctx.rows = processes, rows
        return processes.together(mine, rows)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        processes: Processes = ctx.processes
        return slopes[0][processes.share(ctx.rows)] * processes.count, None, None


class _Divide(torch.autograd.Function):
    """One's own rows of those that all have; their gradients are put together again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, processes: Processes) -> Tensor:
        ctx.processes, ctx.rows = processes, len(x)
        return x[processes.share(len(x))].clone()

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        processes: Processes = ctx.processes
        return processes.together(slopes[0].contiguous(), ctx.rows) / processes.count, None

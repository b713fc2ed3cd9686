"""Weights divided among processes (FSDP, Zhao et al., 2023), for flows that are large for one device.

Each process keeps a share of every tensor of the flow, of its gradient, of the optimiser's moments and of the
averaged weights. Before a block works, the shares of its weights are put together, and afterwards dropped
again; its gradients are averaged and divided as soon as they are there. The mixture, which is small, stays
whole in all processes.

torch keeps a divided tensor as a `DTensor`. The optimiser, the clipping and the averaging work on a process's
own share of it, an ordinary tensor; files hold whole tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.blocks import blocks_of
from flowgmm_cli.training.processes import Processes, noticed


@dataclass(frozen=True)
class Sharding:
    """How the weights of a training are kept.

    Attributes:
        blank: a model without weights, from which whole ones are made; None if all are whole in any case.
    """

    blank: FlowMixture | None = None

    @property
    def on(self) -> bool:
        """Whether weights are divided."""
        return self.blank is not None

    def whole(self, model: FlowMixture) -> FlowMixture:
        """A model with all its weights, in every process: this one, or a copy of a divided one.

        All processes must call this.

        Raises:
            LostProcessError: another process is gone.
        """
        if self.blank is None:
            return model
        made = copy.deepcopy(self.blank)
        with noticed():
            state = {name: whole(value) for name, value in model.state_dict().items()}
        made.load_state_dict(state, assign=True)
        for one, source in zip(made.parameters(), model.parameters(), strict=True):
            one.requires_grad_(source.requires_grad)
        return made.train(model.training)


def shard(models: Sequence[FlowMixture], x: Tensor, processes: Processes, *, on: bool) -> Sharding:
    """Divide the flows of some models in place, if `on` and if there is another process.

    Args:
        models: of the same architecture, on the device of training, the same in every process.
        x: a few preprocessed rows `(n, D)`, by which it is seen how the flow works.
        processes: those that train together.
        on: `train.fsdp`.

    Raises:
        LostProcessError: another process is gone.
        RecipeError: the flow does not work in parts.
    """
    if not on or processes.alone:
        return Sharding()
    blank = _blank(models[0])
    for model in models:
        try:
            with noticed():
                _divide(model.flow, x)
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            raise RecipeError(
                f"train.fsdp: the flow {type(blank.flow).__name__} does not work with divided weights",
                details=str(error).strip().splitlines()[:1],
                hint="train.fsdp=false; every process then keeps all weights",
            ) from error
    return Sharding(blank)


def own(tensor: Tensor) -> Tensor:
    """This process's share of a divided tensor, or another tensor as it is; no gradient passes to a share."""
    if not divided(tensor):
        return tensor
    with torch.no_grad():
        return cast(Tensor, cast(Any, tensor).to_local())


@torch.no_grad()
def whole(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """All of a divided tensor, or another tensor as it is.

    All processes must call this.

    Args:
        tensor: divided, or the share of something divided as `like` is.
        like: None if `tensor` knows by itself.
    """
    if like is not None and divided(like) and tensor.ndim and not divided(tensor):
        tensor = type(like).from_local(  # type: ignore[attr-defined]
            tensor,
            like.device_mesh,  # type: ignore[attr-defined]
            like.placements,  # type: ignore[attr-defined]
            run_check=False,
            shape=like.shape,
            stride=like.stride(),
        )
    return cast(Any, tensor).full_tensor() if divided(tensor) else tensor


@torch.no_grad()
def as_divided(tensor: Tensor, like: Tensor) -> Tensor:
    """A whole tensor that every process has, divided as `like` is; nothing is sent."""
    if not divided(like) or divided(tensor) or not tensor.ndim:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    place = cast(Any, like)
    return distribute_tensor(
        tensor.to(like.device), place.device_mesh, place.placements, src_data_rank=None
    ).detach()


def divided(tensor: Tensor) -> bool:
    """Whether it is one of those of which each process has a share."""
    return hasattr(tensor, "full_tensor")  # without the class, whose import takes a second of every run


def _blank(model: FlowMixture) -> FlowMixture:
    """A copy whose parameters have no numbers; its buffers do."""
    memo: dict[int, Any] = {
        id(one): nn.Parameter(torch.empty_like(one, device="meta"), requires_grad=False)
        for one in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _divide(flow: nn.Module, x: Tensor) -> None:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    training = flow.training
    flow.eval()  # no dropout, of whose random numbers these rows would take some
    blocks = blocks_of(flow, x)
    options: dict[str, Any] = {
        "mesh": _all_processes(x.device.type),
        "reshard_after_forward": True,
        "ignored_params": {one for one in flow.parameters() if not one.ndim},  # which cannot be divided
    }
    for block in blocks:
        fully_shard(block, **options)
    fully_shard(flow, **options)  # what is in no block
    if hasattr(flow, "inverse"):
        register_fsdp_forward_method(flow, "inverse")
    with torch.no_grad():
        flow(x)  # torch's own preparations, after which shares stay in their place; and whether it works
    flow.train(training)


@cache  # each might come with a process group of its own, and a race divides many flows
def _all_processes(device: str) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (torch.distributed.get_world_size(),))

"""Fully sharded data parallel training (FSDP, Zhao et al., 2023), for flows too large for one device.

Each process keeps a shard of every tensor of the flow, of its gradient, of the optimiser's moments and of the
averaged weights. The weights of a block are gathered before it is called and freed afterwards; its gradients
are averaged and scattered as soon as they are computed. The mixture is small and stays whole.

torch keeps a sharded tensor as a `DTensor`. The optimiser and the average work on local shards, which are
ordinary tensors; files hold full tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.blocks import find_blocks
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.training.distributed import Distributed, translate_errors


@dataclass(frozen=True)
class Sharding:
    """Record of the layout of the weights of a training.

    `template` is a model without weights, of which full models are copies; None if nothing is sharded.
    """

    template: FlowMixture | None = None

    @property
    def on(self) -> bool:
        """True if weights are sharded."""
        return self.template is not None

    def full_model(self, model: FlowMixture) -> FlowMixture:
        """Return a model with full weights in every process: `model` itself, or a copy of a sharded one.

        All processes must call this. Raises `LostProcessError` if another process is gone.
        """
        if self.template is None:
            return model
        full = copy.deepcopy(self.template)
        with translate_errors():
            state = {name: full_tensor(value) for name, value in model.state_dict().items()}
        full.load_state_dict(state, assign=True)
        for parameter, source in zip(full.parameters(), model.parameters(), strict=True):
            parameter.requires_grad_(source.requires_grad)
        return full.train(model.training)


def shard_models(models: Sequence[FlowMixture], x: Tensor, group: Distributed, *, on: bool) -> Sharding:
    """Shard the flows of some models in place, if `on` and if there are several processes.

    The models have one architecture and the same weights in every process. A pass of `x`, a few preprocessed
    rows `(n, D)`, shows which modules of the flow call which.

    Raises:
        LostProcessError: another process is gone.
        RecipeError: the flow cannot be sharded.
    """
    if not on or group.world_size == 1:
        return Sharding()
    template = _without_weights(models[0])
    for model in models:
        try:
            with translate_errors():
                _shard_flow(model.flow, x)
        except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
            raise RecipeError(
                f"train.fsdp: the flow {type(template.flow).__name__} does not work with divided weights",
                details=str(error).strip().splitlines()[:1],
                hint="train.fsdp=false; every process then keeps all weights",
            ) from error
    return Sharding(template)


def is_sharded(tensor: Any) -> bool:
    """Return True for a `DTensor`, without importing its class, which takes a second."""
    return hasattr(tensor, "full_tensor")


@torch.no_grad()
def local_shard(tensor: Any) -> Any:
    """Shard of this process of a `DTensor`, sharing its memory; another tensor as it is."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def local_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Trained parameters by name, local shards in place of sharded ones; they share memory with the model."""
    return {
        name: nn.Parameter(local_shard(value)) if is_sharded(value) else value
        for name, value in model.named_parameters()
        if value.requires_grad
    }


@torch.no_grad()
def full_tensor(tensor: Any) -> Any:
    """Gather a `DTensor`, which all processes must call; return another tensor as it is."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor


@torch.no_grad()
def shard_like(tensor: Tensor, like: Any) -> Any:
    """Return the `DTensor` of a local shard of a tensor sharded like `like`; nothing is sent."""
    if not is_sharded(like) or is_sharded(tensor) or not tensor.ndim:
        return tensor
    layout = {"shape": like.shape, "stride": like.stride()}
    return type(like).from_local(tensor, like.device_mesh, like.placements, run_check=False, **layout)


@torch.no_grad()
def distribute_like(tensor: Tensor, like: Any) -> Tensor:
    """Shard a full tensor that every process has as `like` is sharded; nothing is sent."""
    if not is_sharded(like) or is_sharded(tensor) or not tensor.ndim:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    local = tensor.to(like.device)
    return distribute_tensor(local, like.device_mesh, like.placements, src_data_rank=None).detach()


def _without_weights(model: FlowMixture) -> FlowMixture:
    """Copy a model with its buffers, and with parameters on the meta device."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, memo)


def _shard_flow(flow: nn.Module, x: Tensor) -> None:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    training = flow.training
    flow.eval()  # dropout would draw random numbers
    scalars = {parameter for parameter in flow.parameters() if not parameter.ndim}  # they have no shards
    options = {"mesh": _device_mesh(x.device.type), "reshard_after_forward": True, "ignored_params": scalars}
    for block in find_blocks(flow, x):
        fully_shard(block, **options)
    fully_shard(flow, **options)  # the parameters in no block
    if hasattr(flow, "inverse"):
        register_fsdp_forward_method(flow, "inverse")
    with torch.no_grad():
        flow(x)  # after its first call torch keeps the shards in place; a flow that cannot be sharded fails
    flow.train(training)


@cache  # a new mesh may come with a new process group, and a search shards many flows
def _device_mesh(device: str) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, (torch.distributed.get_world_size(),))

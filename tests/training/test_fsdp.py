"""Sharded weights: blocks of every kind of flow, gradients, norms and files as of full ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.blocks import find_blocks
from flowgmm_cli.flows.glow import Glow
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.flows.specs import GlowConfig
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.distributed import Distributed
from flowgmm_cli.training.fsdp import (
    distribute_like,
    full_tensor,
    is_sharded,
    local_parameters,
    local_shard,
    shard_like,
    shard_models,
)

# three steps of flows of different kinds, with full and with sharded weights
STEPS = """
import copy, tempfile
from pathlib import Path
from flowgmm_cli.files import read_tensors
from flowgmm_cli.flows.multiscale import FlatFlow
from flowgmm_cli.flows.glow import Glow
from flowgmm_cli.flows.specs import GlowConfig
from flowgmm_cli.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.fsdp import is_sharded, local_shard

class Plugin(torch.nn.Module):
    "Knows nothing of blocks; has a scalar, odd sizes, and uses a layer without a call."
    def __init__(self, g):
        super().__init__()
        self.size = torch.nn.Parameter(torch.tensor(0.3))
        self.nets = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(3))
        self.last = torch.nn.Linear(8, 8, bias=False)
    def forward(self, x):
        half = x[:, :8]
        for net in self.nets:
            half = torch.tanh(net(half))
        rest = x[:, 8:] + half @ self.last.weight
        return torch.cat([x[:, :8] * self.size.exp(), rest], 1), (8 * self.size).expand(len(x))

def flows(g):
    yield RealNVP(16, couplings=3, hidden=32, depth=2, generator=g)
    yield RealNVP(16, couplings=2, hidden=9, depth=1, actnorm=True, mixing="lu", generator=g)
    glow = GlowConfig(scales=2, steps=2, hidden=8)
    yield FlatFlow(Glow(glow, shape=(1, 4, 4), generator=g), (1, 4, 4))
    yield Plugin(g)

torch.manual_seed(0)
g = torch.Generator().manual_seed(2)
x = torch.rand(36, 16, generator=g).double() * 0.8 + 0.1
options = {"labelled": 6, "regularisers": [{"use": "consistency", "weight": 0.7}]}
options |= {"batch_size": 12, "epochs": 1, "fsdp": True, "clip_norm": 0.5}

def save(path, trainer, group):
    parts = trainer.model, trainer.teacher, trainer.optimiser
    save_checkpoint(path, *parts, Progress(step=3), writes=group.is_main_process)

with init_process_group("cpu") as group:
    folder = Path(group.broadcast_text(tempfile.mkdtemp() if group.is_main_process else ""))
    for number, flow in enumerate(flows(g)):
        with torch.no_grad():
            for parameter in flow.parameters():
                if parameter.ndim:
                    parameter.add_(torch.randn(parameter.shape, generator=g) * 0.1)
        single = trainer_of(copy.deepcopy(flow), x, Distributed(), **options)
        shared = trainer_of(flow, x, group, **options)
        plain, sharded = single.model, shared.model
        for trainer in (single, shared):
            assert trainer.fit().progress.step == 3
        for own, other in ((sharded, plain), (shared.teacher, single.teacher)):
            full = shared.sharding.full_model(own)
            assert full.training == other.training
            state = other.state_dict()
            assert list(full.state_dict()) == list(state)
            for name, value in full.state_dict().items():
                assert not is_sharded(value)
                assert (value.double() - state[name].double()).abs().max() < 1e-9, (number, name)
            for a, b in zip(full.parameters(), other.parameters()):
                assert a.requires_grad == b.requires_grad
            kept = sum(local_shard(p).numel() for p in own.flow.parameters())
            total = sum(p.numel() for p in other.flow.parameters())
            padding = sum(p[0].numel() for p in other.flow.parameters() if p.ndim) + 1
            assert kept <= total / group.world_size + padding, (kept, total)
            assert number or kept < 0.55 * total
        states = [trainer.optimiser.state.values() for trainer in (shared, single)]
        kept, total = (sum(v.numel() for state in values for v in state.values()) for values in states)
        assert kept <= (1 / group.world_size + 0.25) * total
        # a file holds full tensors, and full and sharded models can read it
        file, other = folder / f"{number}.safetensors", folder / f"{number}-full.safetensors"
        save(file, shared, group)
        if group.is_main_process:
            save(other, single, group)
        group.barrier()
        a, b = (read_tensors(path, "file")[0] for path in (file, other))
        assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
        assert all((a[k].double() - b[k].double()).abs().max() < 1e-9 for k in a)
        assert load_checkpoint(other, sharded, shared.teacher, shared.optimiser).step == 3
        assert load_checkpoint(file, plain, single.teacher, single.optimiser).step == 3
        save(file, shared, group)
        group.barrier()
        a = read_tensors(file, "file")[0]
        assert all(torch.equal(a[k], b[k]) for k in a)
        print("flow", number)
"""


@pytest.mark.slow
def test_sharded_weights_are_trained_and_saved_as_full_ones_and_each_process_keeps_half(
    run_all: Any,
) -> None:
    expected = ["flow", "0", "flow", "1", "flow", "2", "flow", "3"]
    assert all(output.split() == expected for output in run_all(STEPS, 2))


class Parts(nn.Module):
    """A flow of a plugin: called layers, one whose weight is read without a call, two that share a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.called = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.read = nn.Linear(12, 12)
        self.tied = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.tied[1].weight = self.tied[0].weight
        self.small = nn.Linear(12, 1, bias=False)
        self.both = nn.Linear(12, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        for one in (*self.called, *self.tied, self.both):
            x = one(x)
        return x @ self.read.weight @ self.both.weight, self.small(x)[:, 0]


def test_couplings_of_a_stack_are_blocks_by_their_networks() -> None:
    flow = RealNVP(6, couplings=3, hidden=8, generator=torch.Generator().manual_seed(0))
    stack: Any = flow.layers[0]
    assert find_blocks(flow, torch.ones(2, 6)) == [coupling.net for coupling in stack.couplings]


def test_small_layers_between_couplings_are_no_blocks() -> None:
    flow: Any = Glow(
        GlowConfig(scales=2, steps=2, hidden=64), shape=(1, 4, 4), generator=torch.Generator().manual_seed(0)
    )
    result = find_blocks(FlatFlow(flow, (1, 4, 4)), torch.full((2, 16), 0.5))
    assert len(result) >= 4
    assert {type(block).__name__ for block in result} == {"ImageCoupling"}
    held = {id(parameter) for block in result for parameter in block.parameters()}
    sizes = {True: 0, False: 0}
    for parameter in flow.parameters():
        sizes[id(parameter) in held] += parameter.numel()
    assert sizes[True] > 8 * sizes[False] > 0


def test_a_layer_whose_weight_is_used_elsewhere_is_no_block() -> None:
    flow = Parts()
    assert find_blocks(flow, torch.ones(2, 12)) == list(flow.called)
    assert not any(item._forward_hooks or item._forward_pre_hooks for item in flow.modules())


def test_a_single_process_keeps_full_weights(make_model: Any) -> None:
    model = make_model(4)
    sharding = shard_models((model, model), torch.ones(2, 4), Distributed(), on=True)
    assert not sharding.on
    assert sharding.full_model(model) is model
    assert not shard_models((model, model), torch.ones(2, 4), Distributed(0, 2), on=False).on
    for item in model.parameters():
        assert not is_sharded(item)
        assert local_shard(item) is full_tensor(item) is item
        assert shard_like(item, item) is distribute_like(item, item) is item
    parameters = local_parameters(model)
    assert all(parameters[name] is item for name, item in model.named_parameters() if item.requires_grad)


def test_a_flow_that_does_not_work_in_parts_is_refused(
    make_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(flow: nn.Module, x: Tensor) -> None:
        raise RuntimeError("aten.mm got mixed tensors\nat some place")

    monkeypatch.setattr("flowgmm_cli.training.fsdp._shard_flow", divide)
    with pytest.raises(RecipeError, match=r"train\.fsdp: the flow RealNVP does not work") as caught:
        shard_models((make_model(4),), torch.ones(2, 4), Distributed(0, 2), on=True)
    assert caught.value.details == ("aten.mm got mixed tensors",)
    assert caught.value.hint is not None
    assert "train.fsdp=false" in caught.value.hint


def test_divided_weights_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="fsdp and compile exclude each other"):
        TrainConfig(fsdp=True, compile=True)

"""Divided weights: blocks of every kind of flow, gradients, norms and files as of whole ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.flows.glow import build as build_glow
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.flows.specs import GlowConfig
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.blocks import blocks_of
from flowgmm_cli.training.fsdp import as_divided, divided, own, shard, whole
from flowgmm_cli.training.gradients import Gradients, own_parameters
from flowgmm_cli.training.processes import Processes

RunAll = Callable[[str, int], list[str]]

# one step of flows that are put together in different ways, with whole and with divided weights
STEP = """
import copy, dataclasses, tempfile
from pathlib import Path
from flowgmm_cli.api import Component
from flowgmm_cli.flows.flat import FlatFlow
from flowgmm_cli.flows.glow import build as build_glow
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.flows.specs import GlowConfig
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.objectives.hybrid import Hybrid
from flowgmm_cli.objectives.specs import HybridConfig
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.regularisers.specs import SPECS
from flowgmm_cli.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from flowgmm_cli.training.fsdp import divided, own, shard
from flowgmm_cli.training.gradients import Gradients, own_parameters
from flowgmm_cli.training.optim import averaged, make_optimiser, make_teacher, update_teacher
from flowgmm_cli.training.processes import Processes
from flowgmm_cli.training.sharded import sharded
from flowgmm_cli.training.step import StepInput, TrainingStep, WeightedRegulariser
from flowgmm_cli.training.viewing import Forms, Viewing
from flowgmm_cli.views.tabular import Noise
from flowgmm_cli.views.specs import NoiseConfig

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
    yield RealNVP(16, couplings=2, hidden=9, depth=1, actnorm=True, mixing="lu", dropout=0.1, generator=g)
    glow = GlowConfig(scales=2, steps=2, hidden=8)
    yield FlatFlow(build_glow(glow, shape=(1, 4, 4), generator=g), (1, 4, 4))
    yield Plugin(g)

def rows(n):
    return torch.rand(n, 16, generator=g).double() * 0.8 + 0.1

def step_of(model, teacher, losses, processes, on):
    config = TrainConfig(lr=1e-2)
    sharding = shard((model, teacher), batch.unlabelled.x[:2], processes, on=on)
    parameters = own_parameters(model)
    optimiser = make_optimiser(model, config, parameters)
    gradients = Gradients(model, parameters, processes)
    objective = Hybrid(HybridConfig(), features=16, labelled=5, unlabelled=11)
    step = TrainingStep(model, objective, losses, strong=strong)
    student, tutor = sharded(model, processes), sharded(teacher, processes)
    norms = []
    for number in range(3):
        terms = step.losses(student, tutor, batch, torch.Generator().manual_seed(number))
        gradients.clear()
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        loss = loss.detach()
        gradients.average(loss)
        norms.append(float(gradients.clip(0.5)))
        optimiser.step()
        update_teacher(*averaged(teacher, model), decay=0.9, step=number)
    return sharding, optimiser, norms

torch.manual_seed(0)
g = torch.Generator().manual_seed(2)
strong = Viewing("strong", features=[Noise(NoiseConfig(scale=0.05))])
batch = StepInput(
    labelled=Forms(rows(5)),
    labels=torch.tensor([0, 1, 2, 1, 0]),
    unlabelled=Forms(rows(11)),
    step=7,
    epoch=9.0,
)
with joined("cpu") as processes:
    folder = Path(processes.told(tempfile.mkdtemp() if processes.leads else ""))
    for number, flow in enumerate(flows(g)):
        with torch.no_grad():
            for parameter in flow.parameters():
                if parameter.ndim:
                    parameter.add_(torch.randn(parameter.shape, generator=g) * 0.1)
        plain = FlowMixture(flow, GaussianMixture(torch.randn(3, 16, generator=g), learn_means=True)).double()
        plain.flow.eval()  # its dropout would draw other numbers for other rows
        model, teacher, tutor = copy.deepcopy(plain), make_teacher(plain), make_teacher(plain)
        losses = [
            WeightedRegulariser(0.7, build(Component(kind="regulariser", use=name, config=spec.config())))
            for name, spec in SPECS.items()
        ]
        _, expected, norms = step_of(plain, teacher, losses, Processes(), True)
        sharding, optimiser, found = step_of(model, tutor, losses, processes, True)
        assert all(abs(a - b) < 1e-9 * a for a, b in zip(norms, found)), (norms, found)
        for one, other in ((model, plain), (tutor, teacher)):
            together = sharding.whole(one)
            assert together.training == other.training
            state = other.state_dict()
            assert list(together.state_dict()) == list(state)
            for name, value in together.state_dict().items():
                assert not divided(value)
                assert (value.double() - state[name].double()).abs().max() < 1e-9, (number, name)
            for a, b in zip(together.parameters(), other.parameters()):
                assert a.requires_grad == b.requires_grad
            mine = sum(own(p).numel() for p in one.flow.parameters())
            everything = sum(p.numel() for p in other.flow.parameters())
            room = sum(p[0].numel() for p in other.flow.parameters() if p.ndim) + 1
            assert mine <= everything / processes.count + room, (mine, everything)
            assert number or mine < 0.55 * everything
        held = sum(v.numel() for s in optimiser.state.values() for v in s.values())
        assert held <= (1 / processes.count + 0.25) * sum(
            v.numel() for s in expected.state.values() for v in s.values()
        )
        # the file is that of whole weights, and either can be read by the other
        file, other = folder / f"{number}.safetensors", folder / f"{number}-whole.safetensors"
        save_checkpoint(file, model, tutor, optimiser, Progress(step=3), writes=processes.leads)
        if processes.leads:
            save_checkpoint(other, plain, teacher, expected, Progress(step=3))
        processes.wait()
        from flowgmm_cli.files import read_tensors
        a, b = (read_tensors(one, "file")[0] for one in (file, other))
        assert {k: v.shape for k, v in a.items()} == {k: v.shape for k, v in b.items()}
        assert all((a[k].double() - b[k].double()).abs().max() < 1e-9 for k in a)
        assert load_checkpoint(other, model, tutor, optimiser).step == 3
        assert load_checkpoint(file, plain, teacher, expected).step == 3
        save_checkpoint(file, model, tutor, optimiser, Progress(step=3), writes=processes.leads)
        processes.wait()
        a = read_tensors(file, "file")[0]
        assert all(torch.equal(a[k], b[k]) for k in a)
        print("flow", number)
"""


@pytest.mark.slow
def test_divided_weights_are_trained_and_saved_as_whole_ones_and_each_process_holds_half(
    run_all: RunAll,
) -> None:
    assert all(
        one.split() == ["flow", "0", "flow", "1", "flow", "2", "flow", "3"] for one in run_all(STEP, 2)
    )


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
    assert blocks_of(flow, torch.ones(2, 6)) == [coupling.net for coupling in stack.couplings]


def test_small_layers_between_couplings_are_no_blocks() -> None:
    flow: Any = build_glow(
        GlowConfig(scales=2, steps=2, hidden=64), shape=(1, 4, 4), generator=torch.Generator().manual_seed(0)
    )
    found = blocks_of(FlatFlow(flow, (1, 4, 4)), torch.full((2, 16), 0.5))
    assert len(found) >= 4
    assert {type(block).__name__ for block in found} == {"ImageCoupling"}
    held = {id(parameter) for block in found for parameter in block.parameters()}
    sizes = {True: 0, False: 0}
    for parameter in flow.parameters():
        sizes[id(parameter) in held] += parameter.numel()
    assert sizes[True] > 8 * sizes[False] > 0


def test_a_layer_whose_weight_is_used_elsewhere_is_no_block() -> None:
    flow = Parts()
    assert blocks_of(flow, torch.ones(2, 12)) == list(flow.called)
    assert not any(one._forward_hooks or one._forward_pre_hooks for one in flow.modules())


def test_one_process_keeps_whole_weights(make_model: Callable[..., FlowMixture]) -> None:
    model = make_model(4)
    sharding = shard((model, model), torch.ones(2, 4), Processes(), on=True)
    assert not sharding.on
    assert sharding.whole(model) is model
    assert not shard((model, model), torch.ones(2, 4), Processes(0, 2), on=False).on
    for one in model.parameters():
        assert not divided(one)
        assert own(one) is whole(one) is whole(one, one) is as_divided(one, one) is one
    parameters = own_parameters(model)
    assert all(parameters[name] is one for name, one in model.named_parameters() if one.requires_grad)


def test_gradients_are_cleared_and_shortened(make_model: Callable[..., FlowMixture]) -> None:
    model = make_model(4)
    gradients = Gradients(model, own_parameters(model), Processes())
    torch.autograd.backward(-model.log_prob(torch.ones(3, 4)).sum())
    trained = [one for one in model.parameters() if one.grad is not None]
    before = torch.cat([one.grad.flatten() for one in trained if one.grad is not None]).norm()
    torch.testing.assert_close(gradients.clip(0.25), before)
    after = torch.cat([one.grad.flatten() for one in trained if one.grad is not None]).norm()
    assert float(before) > 0.25 == pytest.approx(float(after), rel=1e-4)
    gradients.clear()
    assert all(one.grad is None for one in model.parameters())


class Twins(Processes):
    """Two processes that always say the same."""

    def add_up(self, tensor: Tensor) -> None:
        tensor.mul_(2)


@pytest.mark.parametrize("wide", [False, True])
def test_gradients_of_several_processes_are_those_of_one_if_they_agree(
    make_model: Callable[..., FlowMixture], wide: bool
) -> None:
    models = [make_model(4), make_model(4)]
    for model in models:
        model.register_parameter("unused", nn.Parameter(torch.ones(3)))
        model.register_parameter("scale", nn.Parameter(torch.ones((), dtype=torch.double if wide else None)))
    one, other = (
        Gradients(model, own_parameters(model), processes)
        for model, processes in zip(models, (Processes(), Twins(0, 2)), strict=True)
    )
    for limit in (0.25, None, 1e9):
        scalars = torch.tensor(3.0), torch.tensor(0.0)
        for model, gradients in zip(models, (one, other), strict=True):
            gradients.clear()
            scale: Any = model.scale
            torch.autograd.backward(-(model.log_prob(torch.ones(3, 4)) * scale).sum())
        other.average(*scalars)
        assert [float(scalar) for scalar in scalars] == [3, 0]
        torch.testing.assert_close(other.clip(limit).float(), one.clip(limit).float())
        for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
            assert (a.grad is None) == (b.grad is None)
            if a.grad is not None:
                torch.testing.assert_close(b.grad, a.grad)


def test_a_flow_that_does_not_work_in_parts_is_refused(
    make_model: Callable[..., FlowMixture], monkeypatch: pytest.MonkeyPatch
) -> None:
    def divide(flow: nn.Module, x: Tensor) -> None:
        raise RuntimeError("aten.mm got mixed tensors\nat some place")

    monkeypatch.setattr("flowgmm_cli.training.fsdp._divide", divide)
    with pytest.raises(RecipeError, match=r"train\.fsdp: the flow RealNVP does not work") as caught:
        shard((make_model(4),), torch.ones(2, 4), Processes(0, 2), on=True)
    assert caught.value.details == ("aten.mm got mixed tensors",)
    assert caught.value.hint is not None
    assert "train.fsdp=false" in caught.value.hint


def test_divided_weights_are_not_compiled() -> None:
    with pytest.raises(ValueError, match="fsdp and compile exclude each other"):
        TrainConfig(fsdp=True, compile=True)

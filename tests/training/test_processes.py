"""Rows divided among processes: the gradient is that of one, in real processes that talk by gloo."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.errors import UsageError
from flowgmm_cli.training import ranks
from flowgmm_cli.training.processes import Processes, joined

RunAll = Callable[[str, int], list[str]]

# every loss there is, of a model in float64 and batches that do not divide evenly
GRADIENTS = """
import copy, dataclasses
from flowgmm_cli.api import Component
from flowgmm_cli.flows.realnvp import RealNVP
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.objectives.hybrid import Hybrid
from flowgmm_cli.objectives.joint import Joint
from flowgmm_cli.objectives.specs import HybridConfig, JointConfig
from flowgmm_cli.plugins.registry import build
from flowgmm_cli.regularisers.specs import SPECS
from flowgmm_cli.training.sharded import ShardedModel
from flowgmm_cli.training.step import StepInput, TrainingStep, WeightedRegulariser
from flowgmm_cli.training.viewing import Forms, Viewing
from flowgmm_cli.views.tabular import Corrupt
from flowgmm_cli.views.tabular import Noise
from flowgmm_cli.views.specs import CorruptConfig, NoiseConfig

def model():
    g = torch.Generator().manual_seed(1)
    flow = RealNVP(4, couplings=2, hidden=8, depth=1, generator=g)
    one = FlowMixture(flow, GaussianMixture(torch.randn(3, 4, generator=g), learn_means=True))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(std=0.5, generator=g)
    return one.double()

def slopes(student, tutor, step, processes):
    student.zero_grad()
    randomness = torch.Generator().manual_seed(3)
    terms = step.losses(student, tutor, batch, randomness)
    torch.stack(list(terms.values())).sum().backward()
    found = [p.grad for p in student.parameters() if p.grad is not None]
    processes.average(found)
    return {k: float(v.detach()) for k, v in terms.items()}, [one.clone() for one in found]

g = torch.Generator().manual_seed(2)
batch = StepInput(
    labelled=Forms(torch.randn(5, 4, generator=g).double()),
    labels=torch.tensor([0, 1, 2, 1, 0]),
    unlabelled=Forms(torch.randn(11, 4, generator=g).double()),
    step=7, epoch=9.0,
)
strong = Viewing("strong", features=[Noise(NoiseConfig()), Corrupt(CorruptConfig())])
plain, other = model(), model()
teacher = copy.deepcopy(model()).requires_grad_(False)
one = dict(features=4, labelled=5, unlabelled=11)
with joined("cpu") as processes:
    shared, tutor = ShardedModel(other, processes), ShardedModel(teacher, processes)
    losses = [
        WeightedRegulariser(0.7, build(Component(kind="regulariser", use=name, config=spec.config())))
        for name, spec in SPECS.items()
    ]
    for objective in (Hybrid(HybridConfig(), **one), Joint(JointConfig(), **one)):
        step = TrainingStep(plain, objective, losses, strong=strong)
        from flowgmm_cli.training.processes import Processes
        terms, expected = slopes(plain, teacher, step, Processes())
        shared_terms, found = slopes(shared, tutor, step, processes)
        assert len(terms) >= len(SPECS) + 2, terms
        assert len(found) == len(expected) > 8
        for name, value in terms.items():
            assert abs(shared_terms[name] - value) < 1e-12 * max(1, abs(value)), name
        for a, b in zip(expected, found):
            assert (a - b).abs().max() < 1e-12 * max(1.0, float(a.abs().max())), (a, b)
        print("terms", len(terms))
"""
TOGETHER = """
with joined("cpu") as processes:
    for rows in range(processes.count, 9):
        whole = torch.arange(3.0 * rows).reshape(rows, 3)
        assert torch.equal(processes.together(whole[processes.share(rows)], rows), whole)
        images = whole.to(torch.uint8).reshape(rows, 1, 3)
        assert torch.equal(processes.together(images[processes.share(rows)], rows), images)
    mine = [torch.full((2,), float(processes.rank)), torch.tensor(float(processes.rank ** 2))]
    processes.average(mine)
    ranks = range(processes.count)
    assert mine[0].tolist() == [sum(ranks) / processes.count] * 2
    assert abs(float(mine[1]) - sum(r * r for r in ranks) / processes.count) < 1e-6
    state = [torch.tensor([processes.rank]), torch.tensor(float(processes.rank))]
    processes.agree(state)
    assert [one.item() for one in state] == [0, 0.0]
    assert processes.told("Zoë" if processes.leads else "") == "Zoë"
    assert processes.numbers({"a": float(processes.rank)}) == {"a": 0.0}
    import time
    order = []
    with processes.in_turn():
        order.append(time.monotonic())
        time.sleep(0.3 if processes.leads else 0)
    after = order[0] - float(processes.told(repr(order[0])))
    assert processes.leads or after >= 0.3, after
"""
WAITING = """
import os, time
os.environ["LOCAL_RANK"] = str(max(0, int(os.environ["RANK"]) - 1))  # the leader's machine, and another
with joined("cpu") as processes:
    started = time.monotonic()
    time.sleep(0.3 if processes.rank == 1 else 0)
    processes.wait()
    assert time.monotonic() - started > 0.2  # the leader waits for the others as they do for it
    with processes.in_turn():
        mine = [time.monotonic()]
        time.sleep(0.2)
        mine.append(time.monotonic())
    times = processes.together(torch.tensor([mine], dtype=torch.float64), processes.count).tolist()
    for (_, end), (start, _) in zip(times, times[1:]):
        assert start >= end, times
"""
LAZY = """
import numpy as np
from flowgmm_cli.data.lazy_dataset import LazyRows, rows_of
from flowgmm_cli.training.sharded import by_shares, read
from flowgmm_cli.training.viewing import Forms

source = torch.arange(40.0).reshape(10, 4)
asked = []
def make(positions):
    asked.extend(positions.tolist())
    return source[torch.from_numpy(positions)]

with joined("cpu") as processes:
    store = LazyRows(make, np.arange(10), 4)
    positions = torch.tensor([7, 2, 9, 4, 0])
    for forms in (Forms(store), Forms(store, store), Forms(source, source.to(torch.uint8))):
        asked.clear()
        found = read(forms, positions, processes)
        if forms.inputs is None or forms.inputs is store:
            assert asked == positions[processes.share(5)].tolist(), asked  # each row is read by one process
        assert torch.equal(rows_of(found.x), source[positions])
        assert found.inputs is None or torch.equal(found.inputs.float(), source[positions])
    assert torch.equal(by_shares(lambda x: 2 * x, source[:7], processes), 2 * source[:7])
    assert torch.equal(by_shares(lambda x: 2 * x, source[:1], processes), 2 * source[:1])
"""
GONE = """
import os
from flowgmm_cli.errors import LostProcessError
with joined("cpu") as processes:
    processes.wait()
    if not processes.leads:
        os._exit(0)
    try:
        for _ in range(100):
            processes.average([torch.ones(3)])
    except LostProcessError:
        print("noticed")
        os._exit(0)
"""
LAST = """
import sys
sys.setswitchinterval(100)  # a thread that asks for Python gets it only where another lets it go
with joined("cpu") as processes:
    kept = torch.distributed.group.WORLD  # as divided weights keep it
    for _ in range(200):
        processes.told("some words" * 1000)
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_losses_and_gradients_of_divided_rows_are_those_of_one_process(run_all: RunAll, count: int) -> None:
    said = run_all(GRADIENTS, count)
    assert len(said) == count
    assert all(one == said[0] and one.count("terms") == 2 for one in said)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_rows_means_and_words_travel(run_all: RunAll, count: int) -> None:
    run_all(TOGETHER, count)


@pytest.mark.slow
def test_all_wait_for_each_other_and_take_their_turns(run_all: RunAll) -> None:
    run_all(WAITING, 3)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_rows_on_the_disk_are_read_by_one_process_each(run_all: RunAll, count: int) -> None:
    run_all(LAZY, count)


@pytest.mark.slow
def test_a_process_that_is_gone_is_noticed(run_all: RunAll) -> None:
    assert run_all(GONE, 2)[0] == "noticed\n"


@pytest.mark.slow
def test_no_process_is_aborted_if_it_ends_right_after_a_message(run_all: RunAll) -> None:
    for _ in range(6):
        run_all(LAST, 2)


@given(rows=st.integers(0, 50), count=st.integers(1, 9))
def test_shares_are_all_rows_in_order_and_differ_by_one_at_most(rows: int, count: int) -> None:
    shares = [list(range(rows))[Processes(rank, count).share(rows)] for rank in range(count)]
    assert [row for share in shares for row in share] == list(range(rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_by_itself_changes_nothing() -> None:
    with joined("cpu") as processes:
        assert processes.alone
        assert processes.leads
        x = torch.arange(6.0)
        assert processes.together(x, 6) is x
        processes.average([x])
        processes.agree([x])
        assert torch.equal(x, torch.arange(6.0))
        assert processes.told("word") == "word"


@pytest.mark.parametrize(
    ("surroundings", "several", "follows"),
    [
        ({}, False, False),
        ({"WORLD_SIZE": "1", "RANK": "0"}, False, False),
        ({"WORLD_SIZE": "2", "RANK": "0"}, True, False),
        ({"WORLD_SIZE": "2", "RANK": "1"}, True, True),
    ],
)
def test_the_surroundings_tell_of_other_processes(
    surroundings: Mapping[str, str], several: bool, follows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert (ranks.several(), ranks.follows()) == (several, follows)


def test_a_process_whose_launcher_is_gone_is_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWGMM_LAUNCHER", raising=False)
    assert not ranks.orphaned()
    monkeypatch.setenv("FLOWGMM_LAUNCHER", str(os.getppid()))
    assert not ranks.orphaned()
    monkeypatch.setenv("FLOWGMM_LAUNCHER", str(os.getppid() + 1))
    assert ranks.orphaned()


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="4 processes are to share 2 GPUs"), joined("auto"):
        pass

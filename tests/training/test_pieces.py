"""Weights, gradients and moments in one piece of memory each: the same numbers as tensor by tensor."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from flowgmm_cli.model import FlowMixture
from flowgmm_cli.recipe.schema import TrainConfig
from flowgmm_cli.training.gradients import Gradients, own_parameters
from flowgmm_cli.training.optim import averaged, make_optimiser, make_teacher, update_teacher
from flowgmm_cli.training.pieces import Pieces, gathered, norm_of
from flowgmm_cli.training.processes import Processes

MakeModel = Callable[..., FlowMixture]
shapes = st.lists(st.lists(st.integers(1, 40), max_size=3).map(tuple), min_size=1, max_size=6)


@settings(deadline=None)
@given(shapes, st.data())
def test_tensors_lie_one_after_the_other_and_nothing_between_them(
    sizes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    tensors = [torch.randn(size) for size in sizes]
    absent = data.draw(st.sets(st.integers(0, len(sizes) - 1)))
    given = [None if place in absent else one for place, one in enumerate(tensors)]
    pieces = Pieces(tensors)
    pieces.all.fill_(9)  # of an earlier step
    written = pieces.fill(given, torch.tensor(3.0), torch.tensor(4.0))
    assert written[-2:].tolist() == [3, 4]
    assert torch.equal(written[:-2], pieces.all)
    for one, part in zip(given, pieces.parts, strict=True):
        assert torch.equal(part, torch.zeros_like(part) if one is None else one)
        assert part.data_ptr() % 64 == pieces.all.data_ptr() % 64
    values = [one for one in given if one is not None]
    exact = torch.cat([one.double().flatten() for one in values]).norm() if values else torch.zeros(())
    torch.testing.assert_close(norm_of(pieces.all).double(), exact.double(), rtol=1e-6, atol=1e-7)
    first = data.draw(st.integers(0, len(sizes) - 1))
    place = slice(first, data.draw(st.integers(first + 1, len(sizes))))
    assert pieces.span(place).norm() == pytest.approx(
        float(torch.cat([part.flatten() for part in pieces.parts[place]]).norm()), rel=1e-5
    )


def test_the_norm_of_very_many_numbers_keeps_its_digits() -> None:
    pieces = Pieces([torch.empty(3000, 3000)])
    pieces.all.normal_(generator=torch.Generator().manual_seed(0))
    exact = pieces.all.double().norm()
    assert float(norm_of(pieces.all)) == pytest.approx(float(exact), rel=1e-6)


def test_gathered_parameters_are_what_they_were_and_neighbours(make_model: MakeModel) -> None:
    model = make_model(4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    pieces = gathered(parameters)
    assert pieces is not None
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        pieces.all.zero_()
    assert not any(one.any() for one in parameters)
    twin = copy.deepcopy(model)  # which has memory of its own
    pieces.all.fill_(1)
    assert not any(one.any() for one in twin.parameters())


@pytest.mark.parametrize(
    "other",
    [
        torch.ones(2, dtype=torch.float64),
        torch.ones(2, device="meta"),
        torch.ones(3, 2).T,
    ],
)
def test_parameters_of_several_kinds_stay_where_they_are(other: Tensor) -> None:
    parameters = [nn.Parameter(torch.ones(3)), nn.Parameter(other)]
    places = [one.data_ptr() for one in parameters]
    assert gathered(parameters) is None
    assert [one.data_ptr() for one in parameters] == places


class Pair:
    """The same model trained by the loop's optimiser, and tensor by tensor by torch's own."""

    def __init__(self, make_model: MakeModel, kind: str) -> None:
        self.models = make_model(4), make_model(4)
        config = TrainConfig.model_validate({"optimiser": kind, "lr": 0.01, "weight_decay": 0.1})
        self.ours = make_optimiser(self.models[0], config)
        assert self.ours.weights is not None
        self.gradients = Gradients(self.models[0], own_parameters(self.models[0]), Processes(), self.ours)
        groups = make_optimiser(copy.deepcopy(self.models[1]), config).param_groups
        named = dict(self.models[1].named_parameters())
        names = [[name for name in named if named[name].ndim > 1 and name.startswith("flow.")]]
        names.append([name for name in named if name not in names[0]])
        theirs: Any = torch.optim.Adam if kind == "adam" else torch.optim.AdamW
        self.theirs = theirs(
            [
                {"params": [named[name] for name in part], "weight_decay": group["weight_decay"]}
                for part, group in zip(names, groups, strict=True)
            ],
            lr=0.01,
        )

    def step(self, number: int, *, without: str | None = None, bad: bool = False) -> None:
        x = torch.randn(20, 4, generator=torch.Generator().manual_seed(number))
        for model in self.models:
            for one in model.parameters():
                one.grad = None
            torch.autograd.backward(-model.log_prob(x).mean())
            if without:
                dict(model.named_parameters())[without].grad = None
        norms = self.gradients.clip(0.5), nn.utils.clip_grad_norm_(self.models[1].parameters(), 0.5)
        torch.testing.assert_close(*norms)
        self.ours.found_inf = torch.tensor(float(bad))  # type: ignore[attr-defined]
        self.ours.step()
        if not bad:
            self.theirs.step()
        for (name, a), b in zip(self.models[0].named_parameters(), self.models[1].parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=f"{name} after step {number}")
        for a, b in zip(self.models[0].parameters(), self.models[1].parameters(), strict=True):
            mine, their = self.ours.state.get(a, {}), self.theirs.state.get(b, {})
            assert set(mine) == set(their)
            for key, value in their.items():
                torch.testing.assert_close(mine[key], value, rtol=1e-4, atol=1e-7)

    @property
    def together(self) -> bool:
        """Whether steps of all groups are taken as one tensor."""
        return all(self.ours._together(index) for index in range(2))


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_steps_are_those_of_torchs_optimiser(make_model: MakeModel, kind: str) -> None:
    pair = Pair(make_model, kind)
    for number in range(3):
        pair.step(number)
        assert pair.together
    pair.step(3, bad=True)
    pair.step(4)
    state = copy.deepcopy(pair.ours.state_dict())  # as a resumed run does
    pair.ours.load_state_dict(state)
    pair.step(5)
    assert pair.together
    means = [pair.models[0].mixture.means, pair.models[1].mixture.means]
    for one, optimiser in zip(means, (pair.ours, pair.theirs), strict=True):
        optimiser.state[one]["exp_avg"].zero_()  # as at the end of a warm-up
    pair.step(6)
    assert pair.together


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_a_parameter_without_gradient_stays_and_counts_its_own_steps(
    make_model: MakeModel, kind: str
) -> None:
    pair = Pair(make_model, kind)
    pair.step(0)
    pair.step(1, without="mixture.means")
    assert not pair.together
    pair.step(2)
    pair.ours.load_state_dict(copy.deepcopy(pair.ours.state_dict()))
    pair.step(3)
    pair.step(4, without="mixture.means")
    steps = {float(state["step"]) for state in pair.ours.state.values()}
    assert steps == {5.0, 3.0}


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_of_gathered_weights_is_that_of_each(make_model: MakeModel, decay: float) -> None:
    model = make_model(4)
    model.register_parameter("fixed", nn.Parameter(torch.ones(3), requires_grad=False))
    teacher, plain = make_teacher(model), make_teacher(model)
    together = averaged(teacher, model, make_optimiser(model, TrainConfig()), decay=decay)
    # all that is trained, which without a decay is the model's own, and the other one
    assert len(together[0]) == len(together[1]) == (2 if decay else 1)
    for number in range(5):
        with torch.no_grad():
            for one in model.parameters():
                one.normal_(generator=torch.Generator().manual_seed(number))
        update_teacher(*together, decay=decay, step=number)
        update_teacher(*averaged(plain, model), decay=decay, step=number)
        for a, b in zip(teacher.parameters(), plain.parameters(), strict=True):
            torch.testing.assert_close(a, b)

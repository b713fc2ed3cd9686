from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flowgmm_cli.api import RecipeError, RunFailedError
from flowgmm_ffjord.model import Ffjord, build
from flowgmm_ffjord.plugin import FfjordConfig, RnodeConfig
from flowgmm_ffjord.regulariser import Rnode


def make(d: int, *, fresh: bool = False, **parameters: Any) -> Ffjord:
    config = FfjordConfig(**{"hidden": 16, "method": "rk4", **parameters})
    flow = build(config, shape=(d,), generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1)
    if not fresh:
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter += 0.3 * torch.randn(parameter.shape, generator=noise)
    return flow


def rows(n: int, d: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(2)).to(dtype)


def test_a_fresh_flow_is_the_identity() -> None:
    x = rows(4, 3)
    z, log_det = make(3, fresh=True)(x)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(4))


def test_the_network_at_a_time_tells_its_jacobian() -> None:
    moment = make(3, depth=3).double().velocity(torch.tensor(0.4, dtype=torch.float64))
    x, v = rows(4, 3, torch.float64), rows(4, 3, torch.float64).flip(0)
    _, derivatives = moment(x)
    jacobian = moment.jacobian(derivatives)
    for row, actual in zip(x, jacobian, strict=True):
        expected = torch.autograd.functional.jacobian(lambda item: moment(item[None])[0][0], row)
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(moment.pull_back(v, derivatives), (v[:, None] @ jacobian)[:, 0])


def linear(d: int, **parameters: Any) -> tuple[Ffjord, torch.Tensor]:
    """A flow whose velocity is very nearly `A x`, and A: tanh is linear for small arguments."""
    flow = make(d, fresh=True, depth=1, hidden=d, **parameters).double()
    a = 0.3 * rows(d, d, torch.float64)
    with torch.no_grad():
        first, last = flow.velocity.weights
        first.copy_(1e-4 * torch.eye(d))
        last.copy_(1e4 * a)
        for item in (*flow.velocity.biases, *flow.velocity.gates):
            item.zero_()
        for gates in flow.velocity.gates:
            gates[1].fill_(50.0)  # open
    return flow, a


@pytest.mark.parametrize("method", ["rk4", "dopri5", "bosh3"])
def test_a_linear_velocity_gives_the_matrix_exponential(method: str) -> None:
    flow, a = linear(3, method=method, time=1.5, steps=40, rtol=1e-8, atol=1e-8)
    x = rows(5, 3, torch.float64)
    with torch.no_grad():
        z, log_det = flow(x)
    torch.testing.assert_close(z, x @ torch.linalg.matrix_exp(1.5 * a).T, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        log_det, torch.full((5,), 1.5 * float(a.trace())).double(), rtol=1e-5, atol=1e-5
    )


def test_path_energies_of_a_linear_velocity_are_those_of_quadrature() -> None:
    flow, a = linear(2, steps=40)
    x = rows(4, 2, torch.float64)
    with torch.no_grad():
        paths = flow.path_energies(x)
    times = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    speeds = torch.linalg.matrix_exp(times[:, None, None] * a) @ x.T
    kinetic = (a @ speeds).square().sum(1).mean(0)
    torch.testing.assert_close(paths.kinetic, kinetic, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(paths.jacobian, a.square().sum().expand(4), rtol=1e-5, atol=1e-5)


def test_the_estimated_trace_is_unbiased_over_directions() -> None:
    exact = make(3).double().eval()
    probing = make(3, trace="estimate", eval_probes=1000).double().eval()
    probing.load_state_dict(exact.state_dict() | {"probes": probing.probes})
    x = rows(6, 3, torch.float64)
    moment = exact.velocity(torch.tensor(0.5, dtype=torch.float64))
    with torch.no_grad():
        _, derivatives = moment(x)
        expected = moment.jacobian(derivatives).diagonal(dim1=1, dim2=2).sum(1)
        draws = torch.stack(
            [(moment.pull_back(v.expand(6, -1), derivatives) * v).sum(1) for v in probing.probes]
        )
    error = draws.std(0) / math.sqrt(len(draws))
    assert float(((draws.mean(0) - expected) / error).abs().max()) < 4.5


def test_directions_of_training_follow_rows_and_weights_and_leave_no_trace() -> None:
    flow, x = make(12).train(), rows(5, 12)
    before = torch.get_rng_state()
    with torch.no_grad():
        first, again, alone = flow(x)[1], flow(x)[1], flow(x[3:4])[1]
        assert torch.equal(torch.get_rng_state(), before)
        flow.velocity.weights[-1].mul_(1.0001)
        moved = flow(x)[1]
    assert torch.equal(first, again)
    torch.testing.assert_close(alone, first[3:4])
    assert float((moved - first).abs().max()) > 1e-3


def test_evaluation_of_many_features_is_deterministic() -> None:
    flow, x = make(70, steps=4).eval(), rows(3, 70)
    with torch.no_grad():
        assert torch.equal(flow(x)[1], flow(x)[1])


def test_gradients_by_the_adjoint_are_those_through_the_solver() -> None:
    actual = []
    for adjoint in (False, True):
        flow = make(2, method="dopri5", adjoint=adjoint, rtol=1e-9, atol=1e-9).double()
        z, log_det = flow(rows(5, 2, torch.float64))
        (z.square().sum() + log_det.sum()).backward()  # type: ignore[no-untyped-call]
        actual.append([parameter.grad for parameter in flow.parameters()])
    for item, two in zip(*actual, strict=True):
        torch.testing.assert_close(item, two, rtol=1e-5, atol=1e-6)


def test_a_solver_that_gives_up_is_an_error() -> None:
    flow = make(2, method="dopri5", max_steps=1, rtol=1e-7, atol=1e-7)
    with pytest.raises(RunFailedError, match="gave up"):
        flow(rows(4, 2))


def test_rows_that_are_no_vectors_are_refused() -> None:
    with pytest.raises(RecipeError, match="vectors"):
        build(FfjordConfig(), shape=(3, 8, 8), generator=torch.Generator())


def test_the_regulariser_takes_mean_energies_of_the_first_rows_per_feature() -> None:
    flow, x = make(3), rows(10, 3)
    terms = Rnode(RnodeConfig(rows=4, kinetic=2.0, jacobian=0.0))(
        SimpleNamespace(flow=flow), None, SimpleNamespace(weak=x)
    )
    expected = 2 * flow.path_energies(x[:4]).kinetic.mean() / 3
    torch.testing.assert_close(terms["rnode_kinetic"], expected)
    assert float(terms["rnode_jacobian"].detach()) == 0


def test_the_regulariser_straightens_paths() -> None:
    flow, x = make(2, steps=6), rows(64, 2)
    term = Rnode(RnodeConfig())
    optimiser = torch.optim.Adam(flow.parameters(), lr=1e-2)
    energies = []
    for _ in range(20):
        terms = term(SimpleNamespace(flow=flow), None, SimpleNamespace(weak=x))
        loss = terms["rnode_kinetic"] + terms["rnode_jacobian"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        energies.append(float(loss.detach()))
    assert energies[-1] < 0.5 * energies[0]


def test_the_regulariser_refuses_another_flow() -> None:
    with pytest.raises(RecipeError, match="needs the flow `ffjord`"):
        Rnode(RnodeConfig())(
            SimpleNamespace(flow=torch.nn.Identity()), None, SimpleNamespace(weak=rows(2, 2))
        )

from __future__ import annotations

from typing import Any

import pytest
import torch

from flowgmm_cli.api import RecipeError
from flowgmm_zuko import model, plugin
from flowgmm_zuko.quiet import zuko

AT_IDENTITY = {
    "nsf_coupling": plugin.NSFCouplingConfig,
    "nsf": plugin.NSFConfig,
    "maf": plugin.MAFConfig,
    "bpf": plugin.BPFConfig,
    "cnf": plugin.CNFConfig,
    "realnvp": plugin.RealNVPConfig,
    "nice": plugin.NICEConfig,
}
ALL = {
    **AT_IDENTITY,
    "naf": plugin.NAFConfig,
    "unaf": plugin.UNAFConfig,
    "sospf": plugin.SOSPFConfig,
    "gf": plugin.GFConfig,
}


def make(name: str, d: int, seed: int = 0, **parameters: Any) -> model.ZukoFlow:
    if "hidden" in ALL[name].model_fields:
        parameters.setdefault("hidden", 16)
    build = getattr(model, f"build_{name}")
    flow: model.ZukoFlow = build(
        ALL[name](**parameters), shape=(d,), generator=torch.Generator().manual_seed(seed)
    )
    return flow


def rows(n: int, d: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", AT_IDENTITY)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_a_fresh_flow_is_the_identity(name: str, d: int) -> None:
    x = rows(20, d)
    with torch.no_grad():
        z, log_det = make(name, d)(x)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-4)
    torch.testing.assert_close(log_det, torch.zeros(20), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in AT_IDENTITY if name != "nice"])
def test_the_random_start_differs(name: str) -> None:
    x = rows(20, 3)
    with torch.no_grad():
        z, _ = make(name, 3, start="random")(x)
    assert float((z - x).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["naf", "gf"])
@pytest.mark.parametrize("d", [1, 3])
def test_rows_within_ten_come_back_from_a_random_start(name: str, d: int) -> None:
    flow, x = make(name, d), rows(50, d)
    with torch.no_grad():
        torch.testing.assert_close(flow.inverse(flow(x)[0]), x, rtol=0, atol=2e-3)


@pytest.mark.parametrize("name", ALL)
def test_without_gradients_no_graph_is_kept(name: str) -> None:
    flow = make(name, 2)
    with torch.no_grad():
        z, log_det = flow(rows(3, 2))
        assert not z.requires_grad
        assert not log_det.requires_grad
        assert not flow.inverse(z).requires_grad


def test_features_beyond_the_bound_of_a_spline_stay_as_they_are() -> None:
    flow = make("nsf_coupling", 4, start="random", affine=False)
    x = torch.full((1, 4), 5.5)
    with torch.no_grad():
        z, log_det = flow(x)
        inside, _ = flow(x - 5)
    assert torch.equal(z, x)
    assert torch.equal(log_det, torch.zeros(1))
    assert float((inside - (x - 5)).abs().max()) > 1e-3
    with torch.no_grad():
        wide, _ = make("nsf_coupling", 4, start="random", affine=False, bound=8.0)(x)
    assert float((wide - x).abs().max()) > 1e-3


def test_values_and_log_determinants_are_those_of_zuko() -> None:
    zuko_flow = zuko.flows.NSF(3, transforms=2, bins=4, hidden_features=[8, 8]).transform
    flow = make("nsf", 3, transforms=2, bins=4, hidden=8, start="random", affine=False)
    zuko_flow.load_state_dict(flow.transform.state_dict())
    x = rows(7, 3)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(flow(x), zuko_flow().call_and_ladj(x), strict=True))


def test_gradients_reach_every_parameter_in_evaluation_mode() -> None:
    for name in ("unaf", "cnf"):  # zuko's solvers pass none to their networks in this mode
        flow = make(name, 2, start="random").eval()
        z, log_det = flow(rows(5, 2))
        (z.square().sum() + log_det.sum()).backward()  # type: ignore[no-untyped-call]
        assert all(parameter.grad is not None for parameter in flow.parameters())
        assert not flow.training


def test_a_linear_mixture_of_features_is_learnt() -> None:
    flow = make("realnvp", 3, mixing="lu", transforms=2)
    assert sum(tuple(p.shape) == (3, 3) for p in flow.parameters()) == 2


@pytest.mark.parametrize("name", ALL)
def test_rows_that_are_no_vectors_are_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="vectors"):
        getattr(model, f"build_{name}")(ALL[name](), shape=(3, 8, 8), generator=torch.Generator())


def test_the_seed_of_the_generator_decides_and_advances() -> None:
    generator = torch.Generator().manual_seed(4)
    config = plugin.MAFConfig(hidden=8, start="random")
    item, two = (model.build_maf(config, shape=(2,), generator=generator).state_dict() for _ in range(2))
    assert any(not torch.equal(item[key], two[key]) for key in item)

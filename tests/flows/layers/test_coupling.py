from __future__ import annotations

import pytest
import torch

from flowgmm_cli.bijection import Sequential
from flowgmm_cli.flows.layers.conditioner import Conditioner
from flowgmm_cli.flows.layers.coupling import AffineCoupling, CouplingStack


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: torch.nn.Module, by: float = 0.3) -> torch.nn.Module:
    generator = seeded(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.mark.parametrize("d", [2, 3, 8])
@pytest.mark.parametrize("flip", [False, True])
def test_one_half_is_kept_and_the_other_scaled_and_shifted(d: int, flip: bool) -> None:
    coupling = AffineCoupling(d, flip=flip, hidden=8, generator=seeded())
    shaken(coupling)
    x = torch.randn(5, d, generator=seeded(2))
    z, log_det = coupling(x)
    middle = (d + 1) // 2
    kept, changed = (slice(middle, d), slice(0, middle)) if flip else (slice(0, middle), slice(middle, d))
    assert torch.equal(z[:, kept], x[:, kept])
    raw, shift = coupling.net(x[:, kept]).chunk(2, dim=1)
    scale = torch.tanh(raw)
    torch.testing.assert_close(z[:, changed], x[:, changed] * scale.exp() + shift)
    torch.testing.assert_close(log_det, scale.sum(1))


@pytest.mark.parametrize("limit", [0.5, 1.0, 3.0])
def test_the_log_scale_never_exceeds_its_limit(limit: float) -> None:
    coupling = AffineCoupling(4, hidden=8, scale_limit=limit, generator=seeded())
    shaken(coupling, by=30.0)
    _, log_det = coupling(100 * torch.randn(50, 4, generator=seeded(2)))
    assert log_det.abs().max() <= 2 * limit + 1e-5
    assert log_det.abs().max() > limit  # the limit is reached, not only respected


def test_a_stack_is_the_composition_of_its_couplings() -> None:
    stack = CouplingStack(7, couplings=4, hidden=8, generator=seeded())
    shaken(stack)
    composed = Sequential(stack.couplings)  # type: ignore[arg-type]
    x = torch.randn(5, 7, generator=seeded(2))
    for one, two in zip(stack(x), composed(x), strict=True):
        torch.testing.assert_close(one, two)
    torch.testing.assert_close(stack.inverse(x), composed.inverse(x))


def test_one_feature_has_no_halves() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        AffineCoupling(1, generator=seeded())


def test_a_conditioner_has_the_depth_it_is_asked_for() -> None:
    widths = [
        (layer.in_features, layer.out_features)
        for layer in Conditioner(3, 4, hidden=8, depth=3, generator=seeded())
        if isinstance(layer, torch.nn.Linear)
    ]
    assert widths == [(3, 8), (8, 8), (8, 8), (8, 4)]


def test_only_the_last_layer_of_a_conditioner_starts_at_zero() -> None:
    net = Conditioner(30, 40, hidden=50, depth=2, generator=seeded())
    first, last = net[0], net[-1]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    assert not last.weight.any()
    assert not last.bias.any()
    assert 0.8 * 30**-0.5 < first.weight.abs().max() <= 30**-0.5


def test_a_coupling_from_its_identity_start_still_learns() -> None:
    coupling = AffineCoupling(4, hidden=8, generator=seeded())
    z, log_det = coupling(torch.randn(20, 4, generator=seeded(2)))
    (z.square().sum() - log_det.sum()).backward()
    last = coupling.net[-1]
    assert isinstance(last, torch.nn.Linear)
    assert last.weight.grad is not None
    assert (last.weight.grad.abs().sum(dim=1) > 0).all()  # some hidden units may be dead

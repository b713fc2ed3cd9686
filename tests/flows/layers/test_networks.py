from __future__ import annotations

import torch

from flowgmm_cli.flows.layers.networks import Conditioner, ResidualConditioner, ShallowConditioner


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_only_the_last_layer_of_a_conditioner_starts_at_zero() -> None:
    net = Conditioner(30, 40, hidden=50, depth=2, generator=seeded())
    first, last = net[0], net[-1]
    assert isinstance(first, torch.nn.Linear)
    assert isinstance(last, torch.nn.Linear)
    assert not last.weight.any()
    assert not last.bias.any()
    assert 0.8 * 30**-0.5 < first.weight.abs().max() <= 30**-0.5


def test_conditioners_of_images_start_as_zero_without_the_global_generator() -> None:
    before = torch.get_rng_state()
    for net in (
        ShallowConditioner(3, 4, hidden=8, dropout=0.5, generator=seeded()),
        ResidualConditioner(3, 4, hidden=8, blocks=2, dropout=0.5, generator=seeded()),
    ):
        assert not net.eval()(torch.randn(2, 3, 5, 5, generator=seeded(1))).any()
        assert all(value.is_contiguous() for value in net.state_dict().values())
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_acts_in_training_only() -> None:
    net = ResidualConditioner(2, 2, hidden=6, blocks=1, dropout=0.5, generator=seeded())
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.normal_(std=0.5, generator=seeded(3))
    x = torch.randn(40, 2, 4, 4, generator=seeded(1))
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))

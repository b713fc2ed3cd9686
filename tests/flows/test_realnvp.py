from __future__ import annotations

import pytest
import torch

from flowgmm_cli.data.tensors import Tensors
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.flows.layers.networks import Conditioner
from flowgmm_cli.flows.realnvp import RealNVP, build
from flowgmm_cli.flows.specs import RealNVPConfig
from flowgmm_cli.mixture.gaussian import GaussianMixture
from flowgmm_cli.views.pipeline import AugmentationPipeline


def make(d: int = 6, **kwargs: object) -> RealNVP:
    config = RealNVPConfig.model_validate({"couplings": 3, "hidden": 16, **kwargs})
    return build(config, shape=(d,), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(), (0,), (1, 28, 28)])
def test_rows_that_are_not_vectors_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RecipeError, match="takes vectors"):
        build(RealNVPConfig(), shape=shape, generator=torch.Generator())


def test_every_feature_is_changed_by_two_couplings() -> None:
    flow = make(5, couplings=2)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.1
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    assert (flow(x)[0] != x).all()


@pytest.mark.parametrize("d", [1, 6])
@pytest.mark.parametrize("mixing", ["none", "permutation", "lu"])
def test_initialise_with_actnorm_standardises_the_latent(d: int, mixing: str) -> None:
    flow = make(d, actnorm=True, mixing=mixing)
    x = 5 + 3 * torch.randn(500, d, generator=torch.Generator().manual_seed(1))
    flow.initialise(x)
    z, _ = flow(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(d), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(d), atol=1e-4, rtol=0)


@pytest.mark.parametrize("d", [1, 6])
def test_initialise_without_actnorm_changes_nothing(d: int) -> None:
    flow = make(d)
    before = {key: value.clone() for key, value in flow.state_dict().items()}
    flow.initialise(5 + 3 * torch.randn(50, d))
    assert all(torch.equal(value, before[key]) for key, value in flow.state_dict().items())


def test_flow_and_mixture_integrate_to_one_in_two_dimensions() -> None:
    flow = make(2, couplings=4, mixing="lu", actnorm=True).double()
    noise = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)
    mixture = GaussianMixture(torch.tensor([[-1.0, 0.0], [1.5, 0.5], [0.0, 1.0]]), scale=0.7).double()
    side = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        z, log_det = flow(grid)
        mass = (mixture.log_prob(z) + log_det).exp().sum() * (side[1] - side[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=2e-3)


def test_dropout_comes_after_the_first_relu_of_each_conditioner_and_adds_no_weights() -> None:
    plain, dropped = make(6, depth=3), make(6, depth=3, dropout=0.5)
    for name, value in plain.state_dict().items():
        after = {"2.": "3.", "4.": "5.", "6.": "7."}
        head, _, tail = name.rpartition("net.")
        same = f"{head}net.{after.get(tail[:2], tail[:2])}{tail[2:]}"
        assert torch.equal(value, dropped.state_dict()[same])
    nets = [module for module in dropped.modules() if isinstance(module, Conditioner)]
    assert len(nets) == 3
    for net in nets:
        assert [type(layer).__name__ for layer in net][:4] == ["Linear", "ReLU", "Dropout", "Linear"]
        assert sum(isinstance(layer, torch.nn.Dropout) for layer in net) == 1


def test_dropout_makes_a_flow_random_only_in_training() -> None:
    flow = make(4, dropout=0.5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    assert not torch.equal(flow(x)[0], flow(x)[0])
    flow.eval()
    assert torch.equal(flow(x)[0], flow(x)[0])
    torch.testing.assert_close(flow.inverse(flow(x)[0]), x, atol=1e-4, rtol=0)


def test_a_whitened_flow_starts_as_the_whitening_and_changes_features_behind_it() -> None:
    flow = make(4, whitening="discriminant")
    x, labels = torch.randn(60, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(60) % 3
    assert torch.equal(flow(x)[0], x)
    flow.initialise_from_labels(x, x, labels)
    assert flow.view_space is not None
    torch.testing.assert_close(flow(x)[0], flow.view_space(x)[0])
    torch.testing.assert_close(flow.inverse(flow(x)[0]), x, atol=1e-4, rtol=1e-4)
    shift = AugmentationPipeline("strong", features=[lambda z, generator: z + 1], space=flow.view_space)
    changed = shift(Tensors(x), torch.Generator())
    torch.testing.assert_close(flow.view_space(changed)[0], flow.view_space(x)[0] + 1)
    assert make(4).view_space is None

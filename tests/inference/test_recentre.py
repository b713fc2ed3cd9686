"""Samples around where rows lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from flowgmm_cli.inference.sampling import class_means, draw_samples, recentre_components
from flowgmm_cli.model import FlowMixture
from flowgmm_cli.trained_model import TrainedModel

MakeTrained = Callable[..., TrainedModel]


def misplaced(trained: TrainedModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in two narrow heaps of the latent space beside the means; their inputs and the heaps' centres."""
    part = trained.model.parts[0]
    heaps = torch.tensor([[-4.0, 1.0], [4.0, -2.0]])
    with torch.no_grad():
        part.mixture.means.copy_(torch.tensor([[-6.0, 0.0], [6.0, 0.0]]))
        noise = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
        return part.flow.inverse(heaps.repeat(200, 1) + 0.5 * noise), heaps


def test_components_move_to_the_mean_of_their_rows(
    make_trained: MakeTrained,
) -> None:
    trained = make_trained()
    x, heaps = misplaced(trained)
    before = {name: value.clone() for name, value in trained.model.state_dict().items()}
    source = recentre_components(trained.model, x)
    mixture = source.parts[0].mixture
    torch.testing.assert_close(mixture.means.detach(), heaps, atol=0.1, rtol=0)
    torch.testing.assert_close(mixture.scales.detach(), torch.full((2, 1), 0.5), atol=0.05, rtol=0)
    assert all(torch.equal(value, before[name]) for name, value in trained.model.state_dict().items())
    assert source.parts[0].flow is trained.model.parts[0].flow


def test_samples_come_from_the_recentred_model(
    make_trained: MakeTrained,
) -> None:
    trained = make_trained()
    x, heaps = misplaced(trained)
    source = recentre_components(trained.model, x)
    made = draw_samples(trained, 500, classes=[0], generator=torch.Generator().manual_seed(0), source=source)
    z = trained.model.parts[0].flow(made.x)[0].detach()
    torch.testing.assert_close(z.mean(0), heaps[0], atol=0.1, rtol=0)
    expected = trained.model.log_prob(made.x).detach().double() + trained.preprocessor.log_det(
        torch.from_numpy(made.features)
    )
    torch.testing.assert_close(torch.from_numpy(made.log_density), expected, atol=1e-4, rtol=1e-5)
    means = trained.model.parts[0].flow(class_means(trained, source=source).x)[0].detach()
    torch.testing.assert_close(means, heaps, atol=0.1, rtol=0)


@pytest.mark.parametrize("members", [1, 2])
def test_components_without_rows_keep_their_means_and_all_members_are_recentred(
    make_trained: MakeTrained, members: int
) -> None:
    trained = make_trained(members=members, components=2)
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    source = recentre_components(trained.model, x)
    assert len(source.parts) == members
    for old, new in zip(trained.model.parts, source.parts, strict=True):
        assert isinstance(new, FlowMixture)
        component = old.mixture.component_log_prob(old.flow(x)[0]).argmax(1)
        for index in range(4):
            stays = torch.equal(new.mixture.means[index], old.mixture.means[index])
            assert stays == (not bool((component == index).any()))
    without = recentre_components(trained.model, x[:0]).parts[0]
    assert torch.equal(without.mixture.means, trained.model.parts[0].mixture.means)

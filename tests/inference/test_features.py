"""A channel turned up and down: the change that was asked for, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from flowgmm_cli.errors import UsageError
from flowgmm_cli.inference.features import FlowLayers, perturb_channel, perturbation_mask

AMOUNTS = (-2.0, 0.0, 2.0)


def test_inverse_inverts_forward_and_the_last_layer_is_the_latent(make_imaged: Any) -> None:
    imaged = make_imaged("grey")
    layers = FlowLayers(imaged.trained)
    for number in range(len(layers.steps)):
        back = layers.inverse(layers.forward(imaged.x, number), number)
        torch.testing.assert_close(back, imaged.x, rtol=0, atol=1e-5)
    z = imaged.trained.model.embed(imaged.x)
    torch.testing.assert_close(layers.forward(imaged.x, len(layers.steps) - 1), z)


@pytest.mark.parametrize("extent", ["bump", "channel", "site"])
def test_only_the_channel_changes_and_by_its_standard_deviation(make_imaged: Any, extent: Any) -> None:
    imaged = make_imaged("grey")
    layers, x = FlowLayers(imaged.trained), imaged.x
    number = len(layers.steps) - 1
    found, _, deviation = perturb_channel(
        layers, x[:2], number, 1, AMOUNTS, reference=x, extent=extent, site=(1, 0)
    )
    assert found.rows.extras["amount"].tolist() == [-2, 0, 2] * 2
    assert found.rows.ids.tolist() == ["1"] * 3 + ["2"] * 3
    shape = layers[number].shape
    states = layers.forward(x, number)
    own = states[:, : 8 * 2 * 2].reshape(-1, 8, 2, 2)[:, 1]
    assert deviation == pytest.approx(float(np.std(own.numpy(), ddof=1)), rel=1e-5)
    moved = layers.forward(found.x, number).reshape(2, 3, -1)
    change = moved - states[:2, None]
    expected = torch.zeros(shape)
    expected[1] = perturbation_mask(shape, extent, (1, 0)) * deviation
    for place, amount in enumerate(AMOUNTS):
        torch.testing.assert_close(
            change[:, place, :32], (amount * expected).reshape(1, -1).expand(2, -1), rtol=0, atol=1e-3
        )
        torch.testing.assert_close(change[:, place, 32:], torch.zeros(2, 32), rtol=0, atol=1e-3)


def test_amount_zero_reconstructs_the_images(make_imaged: Any) -> None:
    for kind in ("grey", "colour", "vector", "vector colour"):
        imaged = make_imaged(kind)
        layers = FlowLayers(imaged.trained)
        found, *_ = perturb_channel(layers, imaged.x[:3], 5, 0, [0.0], reference=imaged.x)
        cells = found.rows.columns["photo"]
        np.testing.assert_array_equal(cells, imaged.rows.columns["photo"][:3])


def test_the_default_channel_has_the_largest_standard_deviation(make_trained: Any) -> None:
    trained = make_trained()
    layers = FlowLayers(trained)
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 7.0])
    found, channel, _ = perturb_channel(layers, x[:1], 0, None, [1.0], reference=x)
    assert channel == 1
    torch.testing.assert_close(found.x[0], x[0] + torch.tensor([0.0, float(x[:, 1].std())]))


def test_a_bump_decreases_around_its_site() -> None:
    layer = (2, 6, 9)
    found = perturbation_mask(layer, "bump", (2, 3))
    assert found.shape == (6, 9)
    assert float(found[2, 3]) == 1
    assert float(found[2, 4]) == pytest.approx(np.exp(-1 / (2 * 1.5**2)))
    assert float(perturbation_mask(layer, "bump").argmax()) == 3 * 9 + 4
    assert perturbation_mask(layer, "channel").sum() == 54
    assert perturbation_mask((5,), "bump").shape == ()


@pytest.mark.parametrize(
    ("number", "channel", "site", "says"),
    [(99, 0, None, "--layer is 99"), (1, 1, None, "--channel is 1"), (1, 0, (8, 0), "outside")],
)
def test_unknown_layers_channels_and_sites_are_usage_errors(
    make_imaged: Any, number: int, channel: int, site: tuple[int, int] | None, says: str
) -> None:
    imaged = make_imaged("grey")
    with pytest.raises(UsageError, match=says):
        perturb_channel(
            FlowLayers(imaged.trained), imaged.x, number, channel, [0], reference=imaged.x, site=site
        )

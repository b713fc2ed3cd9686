from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from flowgmm_cli.views.elastic import Elastic
from flowgmm_cli.views.specs import ElasticConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("size", "knots"), [((12, 9), 4), ((8, 8), 2), ((5, 1), 3)])
def test_pixels_come_from_where_a_cubic_field_points(size: tuple[int, int], knots: int) -> None:
    x = images(3, 2, *size)
    view = Elastic(ElasticConfig(pixels=1.5, knots=knots), shape=(2, *size), high=1.0)
    seen = view(x, torch.Generator().manual_seed(5))
    draws = torch.empty(3, 2, knots, knots, dtype=x.dtype)
    draws.uniform_(-1, 1, generator=torch.Generator().manual_seed(5))
    field = F.interpolate(draws * 1.5, size, mode="bicubic", align_corners=True).numpy()
    rows, columns = np.mgrid[: size[0], : size[1]]
    for place in range(3):
        source = np.stack([rows + field[place, 1], columns + field[place, 0]])
        for channel in range(2):
            expected = ndimage.map_coordinates(
                x[place, channel].numpy(), source, order=1, mode="grid-constant"
            )
            torch.testing.assert_close(seen[place, channel], torch.from_numpy(expected))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_no_displacement_leaves_images_as_they_are(padding: str) -> None:
    x = images(4, 3, 7, 10)
    config = ElasticConfig.model_validate({"pixels": 0.0, "padding": padding})
    torch.testing.assert_close(Elastic(config, shape=(3, 7, 10), high=1.0)(x, torch.Generator()), x)


def test_displacements_are_smooth_and_go_both_ways() -> None:
    # of an image that grows from left to right by 1 a pixel the displacement is the difference
    ramp = torch.arange(28, dtype=torch.float64).expand(2000, 1, 28, 28)
    view = Elastic(ElasticConfig(pixels=1.5), shape=(1, 28, 28), high=27.0)
    moved = (view(ramp, torch.Generator().manual_seed(0)) - ramp)[:, 0, 4:-4, 4:-4]
    assert float(moved.mean()) == pytest.approx(0, abs=0.02)
    assert 1.5 < float(moved.abs().max()) < 2.5  # a cubic goes a little beyond its knots
    assert float(moved.diff(dim=1).abs().max()) < 0.6
    assert float(moved.diff(dim=2).abs().max()) < 0.6

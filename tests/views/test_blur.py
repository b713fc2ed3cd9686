from __future__ import annotations

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from flowgmm_cli.views.blur import Blur, gaussian_blur
from flowgmm_cli.views.specs import BlurConfig


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("size", [(9, 14), (2, 3), (1, 1)])
def test_every_image_is_blurred_by_its_width_as_in_scipy(size: tuple[int, int]) -> None:
    x, radius = images(3, 2, *size), 5
    sigmas = [0.4, 1.0, 2.3]
    seen = gaussian_blur(x, torch.tensor(sigmas, dtype=x.dtype), radius=radius)
    for place, sigma in enumerate(sigmas):
        for channel in range(2):
            expected = ndimage.gaussian_filter(
                x[place, channel].numpy(), sigma, mode="nearest", radius=radius
            )
            torch.testing.assert_close(seen[place, channel], torch.from_numpy(expected))


def test_widths_are_drawn_evenly_up_to_the_largest() -> None:
    x = torch.zeros(4000, 1, 15, 15, dtype=torch.float64)
    x[:, :, 7, 7] = 1
    seen = Blur(BlurConfig(sigma=2.0), shape=(1, 15, 15), high=1.0)(x, torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen.sum((1, 2, 3)), torch.ones(4000, dtype=x.dtype))
    place = torch.arange(15, dtype=x.dtype) - 7
    width = (seen[:, 0].sum(1) * place.square()).sum(1).sqrt()
    assert 1.9 < float(width.max()) <= 2.0
    assert float(width.mean()) == pytest.approx(1.0, abs=0.05)
    assert float(width.median()) == pytest.approx(1.0, abs=0.05)


def test_a_width_of_zero_leaves_images_as_they_are() -> None:
    x = images(3, 3, 6, 7)
    assert torch.equal(Blur(BlurConfig(sigma=0.0), shape=(3, 6, 7), high=1.0)(x, torch.Generator()), x)

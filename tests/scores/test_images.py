"""`likelihood_ratio` and `compression`."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from score_rows import fit_score, make_inputs

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.errors import DataError
from flowgmm_cli.model import Model
from flowgmm_cli.scores.images import compression_bits, paeth_predictor

Draw = Callable[..., ScoreInputs]


def test_without_mutation_and_at_full_rank_the_background_is_the_gaussian_of_the_pixels(draw: Draw) -> None:
    train, rows = draw(500), draw(40, seed=1)
    pixels = train.x.double().numpy()
    background = multivariate_normal(pixels.mean(0), np.cov(pixels.T, bias=True))
    expected = background.logpdf(rows.x.double().numpy()) - rows.log_density.numpy()
    result = fit_score("likelihood_ratio", train, mutation=0.0, rank=4)(rows)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_mutated_pixels_make_the_background_wider(draw: Draw) -> None:
    train = draw(2000)
    spread = [
        fit_score("likelihood_ratio", train, mutation=mutation).state()[1]["variances"].sum()
        for mutation in (0.0, 0.5)
    ]
    assert spread[1] > 1.5 * spread[0]


@pytest.mark.parametrize("name", ["likelihood_ratio", "compression"])
def test_rows_without_images_are_refused(name: str, draw: Draw) -> None:
    with pytest.raises(DataError, match="reads images"):
        fit_score(name, draw(10, with_images=False))(draw(10, with_images=False))


def test_bits_of_the_model_and_of_the_compressor_are_subtracted(gaussian: Model) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 2, 2))
    levels[0] = [[0, 255], [0, 255]]
    x = torch.tensor(levels / 255 * 4 - 1).float()  # pixels from -1 to 3
    rows = make_inputs(gaussian, x.flatten(1), x)
    probability_of_a_level = rows.log_density.numpy() + 4 * math.log(4 / 255)
    bits = [compression_bits(image.astype(np.uint8)) for image in levels]
    expected = -probability_of_a_level / math.log(2) - bits
    np.testing.assert_allclose(fit_score("compression", rows)(rows), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28), (16, 16, 3)])
def test_even_and_smooth_images_are_short_and_noise_is_not(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ramp = np.broadcast_to(
        np.arange(shape[1], dtype=np.uint8).reshape(1, -1, *(1,) * (len(shape) - 2)) * 5, shape
    )
    even = np.full(shape, 200, np.uint8)
    assert compression_bits(even) <= compression_bits(ramp) < compression_bits(noise) / 8
    assert compression_bits(noise) >= 8 * noise.size
    assert compression_bits(ramp) < 8 * len(zlib.compress(np.ascontiguousarray(ramp).tobytes(), 9))


def test_paeth_predicts_as_the_png_specification_says() -> None:
    rng = np.random.default_rng(0)
    left, up, corner = rng.integers(0, 256, (3, 200), dtype=np.uint8)
    for a, b, c, result in zip(
        *(value.tolist() for value in (left, up, corner)), paeth_predictor(left, up, corner), strict=True
    ):
        guess = a + b - c
        nearest = min((abs(guess - value), place) for place, value in enumerate((a, b, c)))[1]
        assert result == (a, b, c)[nearest]

"""Scores that read images: `likelihood_ratio` and `compression`."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.data.array_types import Bytes, Floats
from flowgmm_cli.errors import DataError
from flowgmm_cli.scores.base import ArrayScore, to_finite, to_numpy
from flowgmm_cli.scores.mahalanobis import Gaussian, fit_gaussian
from flowgmm_cli.scores.specs import LikelihoodRatioConfig


def get_images(rows: ScoreInputs) -> Tensor:
    """Return images `(N, height, width)` or `(N, height, width, channels)`.

    Raises:
        DataError: the rows are not images.
    """
    if rows.images is None:
        raise DataError("this score reads images, and the rows have no images")
    return rows.images


class LikelihoodRatio(ArrayScore):
    r""":math:`\log p_0(x) - \log p(x)`, where :math:`p_0` is a background model; higher = further out.

    Both densities are high for images with large even areas, whose content does not matter to them; the
    difference keeps the content (Ren et al., 2019, "Likelihood ratios for out-of-distribution detection").
    Their background is a second network of the same kind; this one is small: a Gaussian of pixels with a
    low-rank covariance (probabilistic PCA, Tipping and Bishop, 1999), fitted to training images in which
    draws from the whole range replace a share of the pixels.
    """

    config: LikelihoodRatioConfig

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Fit the background."""
        pixels = to_numpy(get_images(train).flatten(1))
        low, high = pixels.min(), pixels.max()
        mutated = np.where(
            generator.random(pixels.shape) < self.config.mutation,
            generator.uniform(low, high, pixels.shape),
            pixels,
        )
        mean = mutated.mean(axis=0)
        background = fit_gaussian(
            mutated - mean, shrinkage="none", generator=generator, rank=self.config.rank
        )
        self.fitted = {"mean": mean, **background.state()}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in nats."""
        background = Gaussian.from_state(self.fitted)
        pixels = get_images(rows).flatten(1).double()
        log_prob = background.log_prob(pixels - torch.from_numpy(self.fitted["mean"]))
        return to_finite(to_numpy(log_prob - rows.log_density))


class Compression(ArrayScore):
    r""":math:`-\log_2 p(x) - L(x)`, where L(x) is the length of the compressed image in bits.

    A general compressor makes simple images short, in or out of the distribution. Images that the model finds
    less likely than this explains are further out: higher (Serra et al., 2020, "Input complexity and
    out-of-distribution detection with likelihood-based generative models"). Pixels are rounded to 256 levels
    between the smallest and the largest of the training images; p is the density of such a pixel, so both are
    numbers of bits.
    """

    def fit(self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: Generator) -> None:
        """Store the range of the pixels."""
        images = get_images(train)
        low, high = float(images.min()), float(images.max())
        self.fitted = {"range": np.array([low, high if high > low else low + 1.0])}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in bits."""
        low, high = self.fitted["range"]
        step = (high - low) / 255
        levels = np.nan_to_num(np.round((to_numpy(get_images(rows)) - low) / step))
        levels = np.clip(levels, 0, 255).astype(np.uint8)
        bits = np.array([compression_bits(image) for image in levels], dtype=np.float64)
        log_level = math.log2(step) * math.prod(levels.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            return to_finite(-to_numpy(rows.log_density) / math.log(2) - log_level - bits)


def compression_bits(image: Bytes) -> int:
    """Return the length in bits of a compressed image `(height, width)` or `(height, width, channels)`.

    Four of PNG's filters are tried on the whole image, and the shortest output of zlib counts: the bytes
    themselves, their differences to the left, upwards, and to Paeth's prediction (PNG specification, 9.4).
    """
    left, up, corner = np.zeros_like(image), np.zeros_like(image), np.zeros_like(image)
    left[:, 1:], up[1:], corner[1:, 1:] = image[:, :-1], image[:-1], image[:-1, :-1]
    candidates = (image, image - left, image - up, image - paeth_predictor(left, up, corner))
    return 8 * min(len(zlib.compress(filtered.tobytes(), 9)) for filtered in candidates)


def paeth_predictor(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Return the neighbour of each pixel that is nearest to `left + up - corner`; the first of equals."""
    a, b, c = (neighbour.astype(np.int16) for neighbour in (left, up, corner))
    estimate = a + b - c
    to_a, to_b, to_c = np.abs(estimate - a), np.abs(estimate - b), np.abs(estimate - c)
    return np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, up, corner))

"""Score `compression`."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from flowgmm_cli.api import ScoreInputs
from flowgmm_cli.errors import DataError
from flowgmm_cli.scores.images import pixels
from flowgmm_cli.scores.specs import NoParameters
from flowgmm_cli.scores.values import FittedArrays, Floats, array, finite

Bytes = npt.NDArray[np.uint8]


class Compression(FittedArrays):
    r""":math:`-\log_2 p(x) - L(x)`, where L(x) is the length of the compressed image in bits.

    A general compressor makes simple images short, whatever they show. What the model finds less likely than
    this explains is further out: higher (Serra et al., 2020, "Input complexity and out-of-distribution
    detection with likelihood-based generative models"). Pixels are rounded to 256 levels between the
    smallest and the largest of the training images; p is the density of such a pixel, so both are numbers of
    bits.
    """

    def __init__(self, config: NoParameters) -> None:
        super().__init__()

    def fit(
        self, train: ScoreInputs, held_out: ScoreInputs, model: Any, generator: np.random.Generator
    ) -> None:
        """Take the range of the pixels."""
        images = pixels(train)
        low, high = float(images.min()), float(images.max())
        self.fitted = {"range": np.array([low, high if high > low else low + 1.0])}

    def __call__(self, rows: ScoreInputs) -> Floats:
        """Return `(N,)`, in bits."""
        if rows.images is None:
            raise DataError("this score reads images, and the rows are none")
        low, high = self.fitted["range"]
        step = (high - low) / 255
        levels = np.clip(np.nan_to_num(np.round((array(rows.images) - low) / step)), 0, 255).astype(np.uint8)
        bits = np.array([compressed_bits(image) for image in levels], dtype=np.float64)
        log_level = math.log2(step) * math.prod(levels.shape[1:])
        with np.errstate(over="ignore", invalid="ignore"):
            return finite(-array(rows.log_density) / math.log(2) - log_level - bits)


def compressed_bits(image: Bytes) -> int:
    """Length in bits of an image `(height, width)` or `(height, width, channels)`, compressed.

    Four of PNG's filters are tried on the whole image, and zlib's output of the best is counted: the bytes
    themselves, their differences to the left, upwards, and to Paeth's prediction (PNG specification, 9.4).
    """
    left, up, corner = np.zeros_like(image), np.zeros_like(image), np.zeros_like(image)
    left[:, 1:], up[1:], corner[1:, 1:] = image[:, :-1], image[:-1], image[:-1, :-1]
    filtered = (image, image - left, image - up, image - paeth(left, up, corner))
    return 8 * min(len(zlib.compress(one.tobytes(), 9)) for one in filtered)


def paeth(left: Bytes, up: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours of a pixel, the one nearest to `left + up - corner`; the first of equals."""
    a, b, c = (one.astype(np.int16) for one in (left, up, corner))
    guess = a + b - c
    to_a, to_b, to_c = np.abs(guess - a), np.abs(guess - b), np.abs(guess - c)
    found: Bytes = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, up, corner))
    return found

"""Source `sklearn`: handwritten digits, and synthetic sets in the plane; needs no file and no network.

The synthetic sets are those of the FlowGMM paper (Izmailov et al. 2020, fig. 2): two moons and two circles
with noise 0.05, eight Gaussians on a ring in three classes, and the pinwheel of Johnson et al. (2016) with a
class for each of its five arms.
"""

from __future__ import annotations

import numpy as np

from flowgmm_cli.api import Column, DataContext, Rows, SourceData
from flowgmm_cli.data.array_types import Floats, Ints
from flowgmm_cli.data.sources.columns import row_ids
from flowgmm_cli.data.specs import SklearnConfig

Points = tuple[Floats, Ints]


class SklearnSource:
    """Digits as a column `pixels`, 8 x 8 in 0..1; synthetic sets as the numeric columns `x1` and `x2`."""

    def __init__(self, config: SklearnConfig, context: DataContext) -> None:
        self._config = config

    def load(self) -> SourceData:
        """Load or generate the set; the test rows of a synthetic set are a separate draw."""
        config = self._config
        if config.name == "digits":
            return _digits()
        draw, noise, class_names = _SETS[config.name]
        noise = noise if config.noise is None else config.noise
        streams = np.random.SeedSequence(config.seed).spawn(2)
        splits = {}
        for split, count, stream in zip(("train", "test"), (config.n, config.test_n), streams, strict=True):
            if count:
                points, labels = draw(count, noise, np.random.default_rng(stream))
                columns = {"x1": points[:, 0].copy(), "x2": points[:, 1].copy()}
                splits[split] = Rows(columns, labels, row_ids(split, count))
        return SourceData((Column("x1", "numeric"), Column("x2", "numeric")), class_names, splits)


def _digits() -> SourceData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    labels = digits.target.astype(np.int64)
    rows = Rows({"pixels": digits.images / 16.0}, labels, row_ids("train", len(labels)))
    return SourceData((Column("pixels", "vector", (8, 8)),), tuple("0123456789"), {"train": rows})


def _two_moons(count: int, noise: float, rng: np.random.Generator) -> Points:
    labels = _draw_classes(count, 2, rng)
    angle = rng.uniform(0, np.pi, count)
    upper = np.stack([np.cos(angle), np.sin(angle)], 1)
    lower = np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    return np.where(labels[:, None] == 0, upper, lower) + noise * rng.standard_normal((count, 2)), labels


def _two_circles(count: int, noise: float, rng: np.random.Generator) -> Points:
    labels = _draw_classes(count, 2, rng)
    angle = rng.uniform(0, 2 * np.pi, count)
    radius = np.where(labels == 0, 1.0, 0.4)
    return _polar(radius, angle) + noise * rng.standard_normal((count, 2)), labels


def _eight_gaussians(count: int, noise: float, rng: np.random.Generator) -> Points:
    blob = _draw_classes(count, 8, rng)
    centres = _polar(np.full(count, 4 / np.sqrt(2)), blob * np.pi / 4)
    return centres + noise * rng.standard_normal((count, 2)), blob * 3 // 8


def _pinwheel(count: int, noise: float, rng: np.random.Generator) -> Points:
    arm = _draw_classes(count, 5, rng)
    radial = 1 + 0.3 * rng.standard_normal(count)
    tangential = noise * rng.standard_normal(count)
    angle = arm * 2 * np.pi / 5 + 0.25 * np.exp(radial)  # arms lag behind with the distance
    x = radial * np.cos(angle) - tangential * np.sin(angle)
    y = radial * np.sin(angle) + tangential * np.cos(angle)
    return 2 * np.stack([x, y], 1), arm


def _draw_classes(count: int, classes: int, rng: np.random.Generator) -> Ints:
    """Return the class of each row in random order; class sizes differ by at most 1."""
    return rng.permutation(np.arange(count, dtype=np.int64) % classes)


def _polar(radius: Floats, angle: Floats) -> Floats:
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)


# name -> (sampler, default noise, class names)
_SETS = {
    "two_moons": (_two_moons, 0.05, ("upper", "lower")),
    "two_circles": (_two_circles, 0.05, ("outer", "inner")),
    "eight_gaussians": (_eight_gaussians, 0.35, ("arc 1", "arc 2", "arc 3")),
    "pinwheel": (_pinwheel, 0.1, tuple(f"arm {arm}" for arm in range(1, 6))),
}


build = SklearnSource

"""The data of the recipe `trees`: invented measurements of trees, drawn here, so there is no licence.

    python benchmarks/trees.py                write trees.csv, trees_test.csv and trees_odd.csv to recipes/
    python benchmarks/trees.py FOLDER

A tree has 18 measurements and a soil. The logarithm of a measurement is a sum of the proportions of its
kind, of age and moisture, which correlate all columns, and of noise. No column tells the kinds apart, all
together do. 20 named trees are too few to learn how; 460 trees without a name show it. 120 further trees
without a name are of a fifth kind. Half of the odd rows are faults: a height in feet, a trunk in inches,
leaves in centimetres; the others have columns of two trees.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent.parent / "recipes"
SEED = 20261201
KINDS = ("alder", "birch", "linden", "rowan")
COLUMNS = (
    "height_m", "trunk_cm", "crown_m", "bark_mm", "twig_mm", "bud_mm", "leaf_mm", "leaf_width_mm", "stalk_mm",
    "teeth", "veins", "catkin_mm", "fruit_mm", "seed_mg", "wood_density", "sap_sugar", "ash_share", "root_cm",
)  # fmt: skip
SOILS = ("sand", "loam", "clay")
LABELS, PILE, OTHERS, TEST, ODD = 20, 460, 120, 200, 60  # rows
SPREAD = 0.3  # of the logarithms
KIND, GROWTH, NOISE = 0.65, 0.3, 0.6  # parts of proportions, of age and moisture, of noise

_laws = np.random.default_rng(3)
MEANS = _laws.uniform(1, 4, size=len(COLUMNS))
SHIFTS = _laws.normal(size=(5, len(COLUMNS)))
SHIFTS[:4] -= SHIFTS[:4].mean(axis=0)
SHIFTS[4] *= 1.6  # the kind without a name is further away
LAWS = _laws.normal(size=(2, len(COLUMNS))) / 1.4


def draw(rng: np.random.Generator, kinds: NDArray[np.int64]) -> list[list[str]]:
    """Measure a tree of each kind."""
    factors = rng.normal(size=(len(kinds), 2))  # age and moisture
    noise = rng.normal(size=(len(kinds), len(COLUMNS)))
    parts = KIND * SHIFTS[kinds] + GROWTH * factors @ LAWS + NOISE * noise
    soils = np.clip(np.round(1 + factors[:, 1] + rng.normal(size=len(kinds))), 0, 2).astype(int)
    values = np.exp(MEANS + SPREAD * parts)
    return [[*(f"{x:.2f}" for x in row), SOILS[soil]] for row, soil in zip(values, soils, strict=True)]


def make() -> dict[str, list[list[str]]]:
    """Return the rows of each file, the heading first."""
    rng = np.random.default_rng(SEED)
    known = rng.permutation(np.arange(LABELS + PILE) % 4)
    first = np.concatenate([np.flatnonzero(known == kind)[: LABELS // 4] for kind in range(4)])
    kinds = np.concatenate([known, np.full(OTHERS, 4)])
    labels = [KINDS[kind] if index in first else "" for index, kind in enumerate(kinds)]
    rows = draw(rng, kinds)
    train = [[*rows[index], labels[index]] for index in rng.permutation(len(rows))]
    kinds = rng.permutation(np.arange(TEST) % 4)
    test = [[*row, KINDS[kind]] for row, kind in zip(draw(rng, kinds), kinds, strict=True)]
    odd = draw(rng, np.arange(ODD) % 4)
    for index, row in enumerate(odd):
        if index % 2:
            row[9:] = odd[index - 1][9:]
        else:
            column, factor = ((0, 0.3048), (1, 2.54), (6, 10.0))[index % 3]
            row[column] = f"{float(row[column]) / factor:.2f}"
    heading = [*COLUMNS, "soil", "kind"]
    return {"trees": [heading, *train], "trees_test": [heading, *test], "trees_odd": [heading[:-1], *odd]}


def main(folder: Path = FOLDER) -> None:
    for name, rows in make().items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""The recipe `trees` and its tables, which come with flowgmm."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

from flowgmm_cli.recipe.catalogue import recipe_folder

NAMES = ("trees", "trees_odd", "trees_test")


def test_the_tables_are_those_of_the_generator(load_benchmark: Callable[[str], Any]) -> None:
    made = load_benchmark("trees").make()
    assert set(made) == set(NAMES)
    for name, rows in made.items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        folder = recipe_folder()
        assert folder is not None
        assert (folder / f"{name}.csv").read_text(encoding="utf-8") == text.getvalue()
    labels = [row[-1] for row in made["trees"][1:]]
    assert {name: labels.count(name) for name in set(labels)} == {
        "": 580, "alder": 5, "birch": 5, "linden": 5, "rowan": 5
    }  # fmt: skip

"""Counters, ids, dates and leaks are recognised; ordinary columns are not."""

from __future__ import annotations

import numpy as np
import pytest

from flowgmm_cli.data.column_checks import are_dates, is_counter, is_identifier, leaks_label


def column(cells: list[object]) -> np.ndarray:
    return np.array(cells, dtype=object)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 1, 2, 3], True), ([7, 8, 9], True), ([0, 2, 4], False), ([3, 2, 1], False), ([1, 2], False)],
)
def test_a_counter_increases_by_1(values: list[float], expected: bool) -> None:
    assert is_counter(np.array(values, dtype=float)) is expected


def test_ids_are_unique_codes_or_called_so() -> None:
    codes = [f"a{row:04d}" for row in range(20)]
    assert is_identifier(codes, 0, id_name=False)
    assert not is_identifier([*codes, "a0001"], 0, id_name=False)
    assert not is_identifier(codes, 1, id_name=True)
    people = ["Ann Lee", "Bo Ek", "Cy Orr", "Di May"]
    assert not is_identifier(people, 0, id_name=False)
    assert is_identifier(people, 0, id_name=True)


@pytest.mark.parametrize(
    "cells",
    [
        ["2024-01-31", "1999-12-01"],
        ["2024-01-31T10:00:00Z", "2024-01-31 10:00:00.123"],
        ["31.12.2024", "1/2/99"],
        ["10:30", "23:59:59"],
        ["3 Mar 2020", "March 3, 2020"],
    ],
)
def test_dates_are_dates(cells: list[str]) -> None:
    assert are_dates(cells)


@pytest.mark.parametrize("cells", [["1.5", "2.5"], ["red", "blue"], ["2024", "1999"], ["1-2", "3-4"], []])
def test_other_cells_are_not_dates(cells: list[str]) -> None:
    assert not are_dates(cells)


LABELS = ["a", "b"] * 20


@pytest.mark.parametrize(
    ("cells", "labels", "leaks"),
    [
        (["0", "1", "2", "0"] * 10, ["a", "b", "c", None] * 10, True),
        (["x", "y", None, "x"] * 10, ["a", "b", "c", None] * 10, False),  # no value stands for c
        (["0", "1"] * 20, LABELS, True),
        (["1", "1", *["0", "1"] * 19], LABELS, False),  # a single row contradicts
        ([str(row) for row in range(40)], LABELS, False),  # values that occur once are no evidence
        (["0", "1"] * 20, ["a", "b"] * 3 + [None] * 34, False),  # nor are few labels
    ],
)
def test_a_column_that_names_the_class_gives_it_away(
    cells: list[object], labels: list[object], leaks: bool
) -> None:
    assert leaks_label(column(cells), column(labels)) is leaks


@pytest.mark.parametrize("seed", range(20))
def test_chance_does_not_look_like_a_leak(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = column([str(value) for value in rng.integers(0, 2, size=30)])
    assert not leaks_label(column([str(value) for value in rng.integers(0, 8, size=30)]), labels)

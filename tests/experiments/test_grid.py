from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.errors import UsageError
from flowgmm_cli.experiments.points import parse_integers, read_grid, split_values


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("2,4,6", ["2", "4", "6"]),
        ("labelled,logistic_regression", ["labelled", "logistic_regression"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ("[{use: noise, scale: 0.1}],[]", ["[{use: noise, scale: 0.1}]", "[]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ('"a\\",b",c', ['"a\\",b"', "c"]),
        ("{use: csv, path: 'x,}'},y", ["{use: csv, path: 'x,}'}", "y"]),
        ("it's,fine", ["it's", "fine"]),
        ("[1,2]", ["[1,2]"]),
        (" 1 , 2 ", ["1", "2"]),
        ("1,", ["1", ""]),
        ("[1,2", ["[1,2"]),
    ],
)
def test_commas_in_quotes_and_brackets_do_not_split(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@given(st.lists(st.integers() | st.lists(st.integers(), max_size=3), min_size=1, max_size=5))
def test_lists_of_values_are_split_into_their_values(values: list[object]) -> None:
    texts = [str(value) for value in values]
    assert split_values(",".join(texts)) == texts


def test_arguments_are_axes_or_fixed_overrides() -> None:
    grid = read_grid(["a.b=1,2", "train.epochs=5", "c=x,y,z", "d=[1,2]", "e!"])
    assert grid.fixed == ("train.epochs=5", "d=[1,2]", "e!")
    assert [axis.key for axis in grid.axes] == ["a.b", "c"]
    combinations = list(grid.combinations())
    assert len(combinations) == len(grid) == math.prod([2, 3])
    assert combinations[:2] == [{"a.b": "1", "c": "x"}, {"a.b": "1", "c": "y"}]
    assert len({tuple(settings.items()) for settings in combinations}) == 6


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["train.epochs=5"], "varies at least one key"),
        ([], "varies at least one key"),
        (["a=1,"], "empty value"),
        (["a=1,,2"], "empty value"),
        (["a=1,2,1"], "repeats a value"),
        (["a=1,2", "a=3,4"], "`a` is given twice"),
        (["a=1,2", "a=3"], "`a` is given twice"),
        ([f"{key}=0,1,2,3,4,5,6,7,8,9" for key in "abcde"], "100,000 combinations"),
    ],
)
def test_invalid_grids_are_usage_errors(words: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_grid(words)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0..4", [0, 1, 2, 3, 4]),
        ("0,2,5", [0, 2, 5]),
        ("3", [3]),
        ("7..7", [7]),
        ("10..12,3", [10, 11, 12, 3]),
        (" 1 , 2 .. 3 ", [1, 2, 3]),
        ("1_000,2000", [1000, 2000]),
        ("5,5,4..6", [5, 4, 6]),
    ],
)
def test_lists_and_ranges(text: str, numbers: list[int]) -> None:
    assert parse_integers(text, "--seeds") == numbers


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "neither a number nor a range"),
        ("a", "`a` is neither"),
        ("1,,2", "`` is neither"),
        ("-1", "`-1` is neither"),
        ("1.5", "`1.5` is neither"),
        ("4..0", "runs backwards"),
        ("0..99999", "more than 10,000"),
        ("²", "neither"),
    ],
)
def test_invalid_lists_are_usage_errors_with_an_example(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_integers(text, "--seeds")
    assert why in caught.value.message
    assert caught.value.message.startswith(f"--seeds {text}:")
    assert "0..4" in str(caught.value.hint)


def test_numbers_below_the_minimum_are_refused() -> None:
    with pytest.raises(UsageError, match="1 is below 2"):
        parse_integers("20,1", "--labels", minimum=2)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_range_includes_both_ends(first: int, length: int) -> None:
    assert parse_integers(f"{first}..{first + length}", "-") == list(range(first, first + length + 1))

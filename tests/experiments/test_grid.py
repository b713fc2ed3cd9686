from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.errors import UsageError
from flowgmm_cli.experiments.grid import read_grid, split_values


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
def test_commas_in_quotes_and_brackets_do_not_divide(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@given(st.lists(st.integers() | st.lists(st.integers(), max_size=3), min_size=1, max_size=5))
def test_flow_values_come_back_one_by_one(values: list[object]) -> None:
    texts = [str(value) for value in values]
    assert split_values(",".join(texts)) == texts


def test_words_are_axes_or_fixed() -> None:
    grid = read_grid(["a.b=1,2", "train.epochs=5", "c=x,y,z", "d=[1,2]", "e!"])
    assert grid.fixed == ("train.epochs=5", "d=[1,2]", "e!")
    assert [axis.key for axis in grid.axes] == ["a.b", "c"]
    found = list(grid.combinations())
    assert len(found) == len(grid) == math.prod([2, 3])
    assert found[:2] == [{"a.b": "1", "c": "x"}, {"a.b": "1", "c": "y"}]
    assert len({tuple(one.items()) for one in found}) == 6


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["train.epochs=5"], "varies at least one key"),
        ([], "varies at least one key"),
        (["a=1,"], "empty value"),
        (["a=1,,2"], "empty value"),
        (["a=1,2,1"], "a value twice"),
        (["a=1,2", "a=3,4"], "`a` is there twice"),
        (["a=1,2", "a=3"], "`a` is there twice"),
        ([f"{key}=0,1,2,3,4,5,6,7,8,9" for key in "abcde"], "100,000 combinations"),
    ],
)
def test_slips_are_usage_errors(words: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read_grid(words)

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.errors import UsageError
from flowgmm_cli.experiments.numbers import parse_numbers


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
    assert parse_numbers(text, "--seeds") == numbers


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
def test_anything_else_is_a_usage_error_that_shows_the_form(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_numbers(text, "--seeds")
    assert why in caught.value.message
    assert caught.value.message.startswith(f"--seeds {text}:")
    assert "0..4" in str(caught.value.hint)


def test_numbers_below_the_least_are_refused() -> None:
    with pytest.raises(UsageError, match="1 is below 2"):
        parse_numbers("20,1", "--labels", least=2)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_range_is_what_range_says(first: int, length: int) -> None:
    assert parse_numbers(f"{first}..{first + length}", "-") == list(range(first, first + length + 1))

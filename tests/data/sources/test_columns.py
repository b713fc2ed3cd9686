import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.data.sources.columns import (
    find_localised_numbers,
    find_non_numeric,
    numbers,
    sort_naturally,
    strings,
    vectors,
)
from flowgmm_cli.data.sources.tables import Table


def cells(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_printed_numbers_are_read_back_bit_for_bit(values):
    assert numbers(cells([repr(value) for value in values])).tolist() == values


@pytest.mark.parametrize("word", ["", "  ", "NA", "n/a", "NaN", "null", "None", "?", "-", None])
def test_words_for_missing_are_missing_in_numbers(word):
    assert np.isnan(numbers(cells(["1", word]))).tolist() == [False, True]


@pytest.mark.parametrize("word", ["one", "1_000", "1,5", "0x10", "1 2", "12a"])
def test_what_only_looks_like_a_number_is_none(word):
    assert numbers(cells(["1", word])) is None
    assert find_non_numeric(cells(["1", word, "NA", ""])).tolist() == [1]


def test_typed_columns_are_numbers_as_they_are():
    assert numbers(cells([1, None])).tolist()[0] == 1
    assert numbers(cells([True, False])).tolist() == [1, 0]
    assert np.isnan(numbers(cells([None, None], pa.null()))).all()
    assert numbers(cells([[1.0]])) is None


def test_strings_keep_words_for_missing_and_integers_stay_integers():
    assert strings(cells(["NA", "null", " x ", ""])).tolist() == ["NA", "null", "x", None]
    assert strings(cells([0, 1, None])).tolist() == ["0", "1", None]
    assert strings(cells([0.0, 1.5, float("nan")])).tolist() == ["0", "1.5", None]


def test_lists_of_equal_length_are_vectors():
    assert vectors(cells([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    assert vectors(cells([[1, 2], [3]])) is None
    assert vectors(cells([[1, 2], None])) is None
    assert vectors(cells([["a"]])) is None
    assert vectors(cells([1])) is None


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "0"], ["0", "9", "10"]),
        (["1.5", "-1", "1"], ["-1", "1", "1.5"]),
        (["b10", "b9", "A"], ["A", "b9", "b10"]),
        (["nan", "1"], ["1", "nan"]),
        (["10", "x", "9"], ["9", "10", "x"]),
        (["日本", "Zebra", "ähre"], ["Zebra", "ähre", "日本"]),
    ],
)
def test_names_are_sorted_as_people_do(names, ordered):
    assert sort_naturally(names) == ordered


@given(st.lists(st.text(max_size=4)))
def test_the_order_does_not_depend_on_the_order_given(names):
    assert sort_naturally(names) == sort_naturally(names[::-1])


def test_class_label_codes_without_a_name_are_unlabelled():
    table = Table(pa.table({"y": [0, 1, -1, None]}), {"y": ["a", "b"]})
    assert table.label_strings("y").tolist() == ["a", "b", None, None]


@pytest.mark.parametrize("cell", ["1,5", "-,5", "1.234,5", "1 234,5", "1,234", "1,234,567.8", "1.234.567"])
def test_localised_numbers_are_recognised(cell):
    assert find_localised_numbers(pa.chunked_array([["1.5", "", cell, "NA"]])).tolist() == [2]
    assert find_localised_numbers(pa.chunked_array([[cell, "red"]])).tolist() == []


@pytest.mark.parametrize("cell", ["1, 5", "1,2,3", "a,5", ",", "2024-01-01", "10.0.0.1"])
def test_other_words_are_no_numbers_written_otherwise(cell):
    assert find_localised_numbers(pa.chunked_array([["1.5", cell]])).tolist() == []

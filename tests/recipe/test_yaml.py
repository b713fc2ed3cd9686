from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.yaml import MAX_BYTES, read_scalar, read_yaml, write_yaml


def value_of(text: str) -> Any:
    return read_yaml(f"key: {text}", "f.yaml").plain()["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3e-4", 0.0003),
        ("1E5", 1e5),
        ("1.5e+3", 1500.0),
        ("-.5", -0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("010", 10),
        ("0008", 8),
        ("-3", -3),
        ("+3", 3),
        ("0x1F", 31),
        (str(2**63 - 1), 2**63 - 1),
        (str(2**63), 2.0**63),  # beyond 64 bits whole numbers become floats
        ("0x" + "f" * 5000, math.inf),
        ("-0x" + "f" * 5000, -math.inf),
        (".inf", math.inf),
        ("inf", math.inf),
        ("-inf", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_scalars_are_what_people_mean(text: str, expected: object) -> None:
    assert value_of(text) == expected
    assert type(value_of(text)) is type(expected)
    assert value_of(text) == read_scalar(text)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "y", "2024-01-31", "2024-01-31T10:00:00Z", "12:30:45", "1:30", "1__0", "_1",
     "1.2.3", "e5", "0o17", "1e", "+", "infinite", "nan", "=", "${x}"],
)  # fmt: skip
def test_everything_else_is_a_string(text: str) -> None:
    assert value_of(text) == text
    assert read_scalar(text) == text


@pytest.mark.parametrize("text", ['"3"', "'true'", '"null"', "!!str 3"])
def test_quotes_make_strings_and_a_dot_makes_nan(text: str) -> None:
    assert isinstance(value_of(text), str)
    assert math.isnan(value_of(".nan"))


def test_keys_are_always_strings() -> None:
    assert read_yaml("1: a\ntrue: b\nnull: c", "f").plain() == {"1": "a", "true": "b", "null": "c"}


def test_positions_are_those_of_keys_and_items() -> None:
    root = read_yaml("a: 1\nb:\n  c: [x, {d: y}]\n", "f")
    marks = {path: (node.mark.line, node.mark.column) for path, node in root.walk()}
    assert marks == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", "c"): (3, 3),
        ("b", "c", 0): (3, 7),
        ("b", "c", 1): (3, 10),
        ("b", "c", 1, "d"): (3, 11),
    }


def test_anchors_and_merges() -> None:
    text = "base: &b {x: 1, y: 2}\nsame: *b\nmore: {<<: *b, y: 3}\nboth: {<<: [*b, {z: 4, x: 9}]}\n"
    assert read_yaml(text, "f").plain() == {
        "base": {"x": 1, "y": 2},
        "same": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
        "both": {"x": 1, "y": 2, "z": 4},
    }


@pytest.mark.parametrize(
    ("text", "place"), [("train:\n  lr: 1\n  lr: 2\n", "f:3:3"), ("train: {lr: 1,\n'lr': 2}", "f:2:1")]
)
def test_duplicate_keys_name_both_lines(text: str, place: str) -> None:
    with pytest.raises(RecipeError, match=rf"^{place}  `lr` is given twice; the first is at line \d$"):
        read_yaml(text, "f")


@pytest.mark.parametrize(
    "text",
    ["a: !!python/object/apply:os.system [id]", "a: !!python/name:os.system", "a: !x 1", "a: !!set {b}",
     "a: !!binary aGk=", "a: !!timestamp 2024-01-01", "a: !!int x", "!!omap []"],
)  # fmt: skip
def test_tags_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match=r"^f:\d+:\d+  the tag `.*` is not allowed"):
        read_yaml(text, "f")


BOMB = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
BOMB += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        *((text, "nested too deeply") for text in ("&a [*a]", "a: &a {b: *a}", "[" * 5000)),
        ("{a: " * 300 + "1" + "}" * 300, "nested too deeply"),
        ("\n".join(BOMB), "more than 100,000 values"),
        ("#" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_documents_without_bounds_are_refused(text: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        read_yaml(text, "f")


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("a: b: c", "f:1:5", "quotes"),
        ("a:\n\tb: 1", "f:2:1", "spaces"),
        ("{path: ${env:X}}", "f:1:9", "${...}"),
        ("a: @b", "f:1:4", "quotes"),
        ("a: 1\n---\nb: 2", "f:2:1", "one document"),
        ("a: *b", "f:1:4", "alias"),
        ("a: 'x", "f:1:6", "end of stream"),
        ("a: \x00", "f:1", "unprintable"),
        ("? [1, 2]\n: x", "f:1:3", "a single word"),
    ],
)
def test_syntax_errors_say_where(text: str, place: str, word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_yaml(text, "f")
    assert caught.value.message.startswith(f"{place}  ")
    assert word in caught.value.message


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(1 - 2**63, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]))
    | st.sampled_from(
        ["3e-4", "yes", "010", "1_0", "inf", "-.inf", ".nan", "null", "~", "true", "0x1", "1:30", "<<"]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("abc<~-: #", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(plain_values)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert read_yaml(write_yaml({"v": value}), "f").plain() == {"v": value}


@given(st.text(max_size=60))
def test_any_text_gives_plain_values_or_a_recipe_error(text: str) -> None:
    with contextlib.suppress(RecipeError):
        root = read_yaml(text, "f")
        kinds = {type(node.value) for _, node in root.walk()}
        assert kinds <= {str, int, float, bool, type(None), list, dict}

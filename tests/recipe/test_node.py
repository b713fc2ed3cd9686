from __future__ import annotations

from enum import Enum
from pathlib import Path

import pytest

from flowgmm_cli.recipe.node import DEFAULT, Mark, describe, make_node


class Colour(Enum):
    RED = "red"


def test_python_values_become_yaml_values() -> None:
    tree = make_node({"a": (1, 2), 3: Path("x/y"), "c": Colour.RED, "d": {"b", "a"}, "e": None})
    assert tree.plain() == {"a": [1, 2], "3": "x/y", "c": "red", "d": ["a", "b"], "e": None}
    assert all(node.mark == DEFAULT for _, node in tree.walk())


def test_a_copy_shares_nothing() -> None:
    tree = make_node({"a": [1]})
    copy = tree.copy(Mark(3, 4))
    copy.children()["a"].value = 2
    assert tree.plain() == {"a": [1]}
    assert (copy.children()["a"].mark, tree.children()["a"].mark) == (Mark(3, 4), DEFAULT)


@pytest.mark.parametrize(
    ("value", "words"),
    [("x" * 80, 'the string "' + "x" * 57 + '..."'), (False, "false"), ({}, "a mapping"), (b"", "a bytes")],
)
def test_values_in_words(value: object, words: str) -> None:
    assert describe(value) == words

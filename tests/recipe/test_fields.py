from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest

from flowgmm_cli.api import Component, Config, Field, component_field
from flowgmm_cli.recipe.fields import choices, describe_field, parameters, snippet


class Side(Enum):
    LEFT = "left"
    RIGHT = "right"


class Inner(Config):
    depth: int = Field(2, description="how deep")
    width: int


class Everything(Config):
    ranged: int = Field(1, ge=1, le=64)
    open_ended: float = Field(1.0, gt=0)
    half_open: float = Field(0.5, ge=0, lt=1)
    upper: float = Field(0.5, gt=0, le=1)
    most: int = Field(3, le=9)
    optional: int | None = Field(None, ge=2)
    several: str | list[str] | None = None
    choice: Literal["a", "b"] = "a"
    one: Literal[64, 128] = 64
    side: Side = Side.LEFT
    word: str = Field("x", min_length=1)
    form: str = Field("x", pattern="^x$")
    even: Annotated[int, Field(multiple_of=2)] = 2
    pair: tuple[int, float] = (1, 2.0)
    table: dict[str, int] = Field(default_factory=dict)
    names: list[Literal["a", "b"]] = Field(default_factory=list)
    jobs: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    share: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    folder: Path = Path("here")
    flag: bool = False
    encoder: Component = component_field("encoder", {"use": "x"})
    maps: list[Component] = component_field("transform", [])
    inner: Inner = Field(default_factory=lambda: Inner(width=3))
    maybe: Inner | None = Field(None, description="perhaps")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ranged", "a whole number from 1 to 64"),
        ("open_ended", "a number above 0"),
        ("half_open", "a number of at least 0 and below 1"),
        ("upper", "a number above 0 and at most 1"),
        ("most", "a whole number of at most 9"),
        ("optional", "a whole number of at least 2, or null"),
        ("several", "a string or a list of strings, or null"),
        ("choice", "one of a, b"),
        ("one", "one of 64, 128"),
        ("side", "one of left, right"),
        ("word", "a string that is not empty"),
        ("form", "a string of the form ^x$"),
        ("even", "a whole number divisible by 2"),
        ("pair", "a list of whole numbers or numbers"),
        ("table", "a mapping"),
        ("names", "a list of a, b"),
        ("jobs", "auto or a whole number of at least 1"),
        ("share", "a whole number of at least 1 or a number above 0 and below 1, or null"),
        ("folder", "a path"),
        ("flag", "true or false"),
        ("encoder", "an encoder `{use: ...}`"),
        ("maps", "a list of transforms"),
        ("inner", "a mapping"),
        ("maybe", "a mapping, or null"),
    ],
)
def test_parameters_in_words(name: str, words: str) -> None:
    assert describe_field(Everything.model_fields[name]) == words


def test_choices_are_those_of_literals_and_enums() -> None:
    actual = {name: choices(field) for name, field in Everything.model_fields.items()}
    assert {name: values for name, values in actual.items() if values} == {
        "choice": ["a", "b"],
        "one": ["64", "128"],
        "side": ["left", "right"],
        "jobs": ["auto"],
    }


def test_nested_mappings_are_described_key_by_key() -> None:
    rows = {row.name: row for row in parameters(Everything)}
    assert "inner" not in rows
    assert rows["inner.depth"].description == "how deep"
    assert rows["inner.width"].required
    assert rows["maybe"].default is None
    assert rows["maybe.width"].expected == "a whole number"
    assert rows["maps"].default == []


def test_defaults_are_plain_values() -> None:
    rows = {row.name: row.default for row in parameters(Everything)}
    assert (rows["folder"], rows["side"], rows["pair"]) == ("here", "left", [1, 2.0])
    assert 'folder: "here"' in snippet("flow", "x", parameters(Everything))


def test_shared_parameters_come_last() -> None:
    class Extended(Inner):
        first: int = 1

    assert [row.name for row in parameters(Extended, Inner)] == ["first", "depth", "width"]

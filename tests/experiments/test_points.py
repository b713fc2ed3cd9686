"""Arguments become axes of a grid, and points become validated recipes before anything is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.errors import PluginError, RecipeError, UsageError
from flowgmm_cli.experiments.points import (
    curve_points,
    group_name,
    parse_integers,
    read_grid,
    split_values,
    sweep_points,
)


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
        ("[it's, {k: 'a]'}],x", ["[it's, {k: 'a]'}]", "x"]),
        ("'a,b", ["'a,b"]),
        ("[1,2]", ["[1,2]"]),
        (" 1 , 2 ", ["1", "2"]),
        ("1,", ["1", ""]),
        ("[1,2", ["[1,2"]),
    ],
)
def test_commas_in_quotes_and_brackets_do_not_split(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_arguments_are_axes_or_fixed_overrides() -> None:
    grid = read_grid(["a.b=1,2", "train.epochs=5", "c=x,y,z", "d=[1,2]", "e!"])
    assert grid.fixed == ("train.epochs=5", "d=[1,2]", "e!")
    assert list(grid.axes) == ["a.b", "c"]
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
        ("0..500", list(range(501))),
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


def budget(point: Any) -> Any:
    return point.recipe.data.config.labels


def test_a_curve_has_every_number_of_labels_with_every_seed(moons_file: Path) -> None:
    points = curve_points(str(moons_file), ["train.epochs=1"], [12, 6], [0, 3])
    assert [(dict(point.settings), point.seed) for point in points] == [
        ({"labels": 6}, 0), ({"labels": 6}, 3), ({"labels": 12}, 0), ({"labels": 12}, 3),
    ]  # fmt: skip
    for point in points:
        assert budget(point).count == point.settings["labels"]
        assert point.recipe.run.seed == budget(point).seed == point.seed
        assert point.recipe.data.config.split.seed == 0  # type: ignore[attr-defined]
        assert point.recipe.train.epochs == 1
    assert points[0].describe() == "labels=6 seed=0"


def test_flags_take_precedence_over_overlays(moons_file: Path) -> None:
    overlay = "{data.labels: {per_class: 3, count: null}, run.seed: 5, train.epochs: 9}"
    text = moons_file.read_text(encoding="utf-8")
    moons_file.write_text(f"{text}overlays: {{x: {overlay}}}\n", encoding="utf-8")
    (point,) = curve_points(str(moons_file), ["train.lr=0.5"], [8], [2], overlays=["x"])
    assert (budget(point).count, budget(point).per_class, point.recipe.run.seed) == (8, None, 2)
    assert (point.recipe.train.epochs, point.recipe.train.lr) == (9, 0.5)
    swept = sweep_points(str(moons_file), read_grid(["train.epochs=1,2"]), [0], overlays=["x"])
    assert [point.recipe.train.epochs for point in swept] == [1, 2]
    assert {budget(point).per_class for point in swept} == {3}


@pytest.mark.parametrize("way", ["per_class: 3", "fraction: 0.1"])
def test_the_number_of_labels_replaces_another_selection(moons_file: Path, way: str) -> None:
    text = moons_file.read_text(encoding="utf-8").replace("count: 12", way)
    moons_file.write_text(text, encoding="utf-8")
    point = curve_points(str(moons_file), [], [8], [0])[0]
    assert budget(point).count == 8
    assert budget(point).per_class is budget(point).fraction is None


@pytest.mark.parametrize(
    ("word", "flag"),
    [("data.labels.count=3", "--labels"), ("run.seed=1", "--seeds"), ("data.labels.seed=1", "--seeds")],
)
def test_keys_of_flags_are_refused_as_overrides(moons_file: Path, word: str, flag: str) -> None:
    with pytest.raises(UsageError, match=flag):
        curve_points(str(moons_file), [word], [8], [0])
    if flag == "--seeds":
        with pytest.raises(UsageError, match=flag):
            sweep_points(str(moons_file), read_grid([word, "train.lr=1,2"]), [0])
        with pytest.raises(UsageError, match=flag):
            sweep_points(str(moons_file), read_grid([f"{word},7"]), [0])


def test_a_sweep_has_every_combination_with_every_seed(moons_file: Path) -> None:
    grid = read_grid(["flow.couplings=2,4", "train.lr=1e-3,1e-2", "train.epochs=1"])
    points = sweep_points(str(moons_file), grid, [0, 1])
    assert len(points) == 8
    assert len({(point.group, point.seed) for point in points}) == 8
    assert {(point.recipe.flow.config.couplings, point.recipe.train.lr) for point in points} == {  # type: ignore[attr-defined]
        (2, 1e-3), (2, 1e-2), (4, 1e-3), (4, 1e-2),
    }  # fmt: skip
    assert {point.recipe.train.epochs for point in points} == {1}


@pytest.mark.parametrize("word", ["flow.couplings=2,4", "flow={use: realnvp},{use: realnvp, hidden: 8}"])
def test_keys_that_the_search_sets_are_no_axes(word: str) -> None:
    words = ["data.path=t.csv", "data.label=y", word]
    with pytest.raises(UsageError, match="the search of the recipe sets"):
        sweep_points("csv", read_grid(words), [0])
    assert len(sweep_points("csv", read_grid([*words, "search=null"]), [0])) == 2


def test_an_error_of_all_combinations_is_reported_once(moons_file: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        sweep_points(str(moons_file), read_grid(["train.epoch=3", "flow.couplings=2,4"]), [0])
    assert "combinations" not in caught.value.message
    with pytest.raises(PluginError):
        sweep_points(str(moons_file), read_grid(["flow.use=realnpv,realnvpp"]), [0])


def test_group_names_are_readable_folders_and_differ_where_settings_do() -> None:
    assert group_name({"labels": 20}) == "labels-20"
    settings = {"flow.couplings": "2", "prior.means": "labelled"}
    assert group_name(settings) == "flow.couplings-2_prior.means-labelled"
    first, second = (group_name({"views": f"[{{use: noise, scale: {scale}}}]"}) for scale in ("0.1", "0 1"))
    assert first != second
    for name in (first, second, group_name({"k": "x/../../y" * 30})):
        assert "/" not in name
        assert len(name) <= 80

from __future__ import annotations

from typing import Any

import pytest

from flowgmm_cli.errors import RecipeError

HEAD = "version: 1\ndata: {use: table, path: a}\n"


def test_environment_variables_and_their_defaults(load: Any) -> None:
    text = "version: 1\ndata:\n  use: table\n  path: ${env:ROOT}/x/${env:FILE:-t.csv}\n"
    recipe = load(text, environ={"ROOT": "/d"})
    assert recipe.data.config.path == "/d/x/t.csv"
    assert recipe.origin.env == ("ROOT",)


@pytest.mark.parametrize("environ", [{}, {"X": ""}])
def test_the_default_stands_for_unset_and_empty_variables(load: Any, environ: dict[str, str]) -> None:
    assert load(HEAD + "train: {epochs: '${env:X:-7}'}", environ=environ).train.epochs == 7


def test_a_default_may_be_empty_or_hold_any_text(load: Any) -> None:
    text = "version: 1\ndata:\n  use: table\n  path: x${env:A:-}y${env:B:-a:-b/c d}\n"
    assert load(text).data.config.path == "xya:-b/c d"


@pytest.mark.parametrize(
    ("value", "path"), [("2024", "2024"), ("010", "010"), ("true", "true"), ("a #b", "a #b")]
)
def test_a_variable_is_text_where_text_is_expected(load: Any, value: str, path: str) -> None:
    text = "version: 1\ndata:\n  use: table\n  path: ${env:V}\n"
    assert load(text, environ={"V": value}).data.config.path == path


def test_a_variable_is_a_number_where_a_number_is_expected(load: Any) -> None:
    recipe = load(HEAD + "train:\n  lr: ${env:LR}\n  compile: ${env:C}", environ={"LR": "3e-4", "C": "true"})
    assert recipe.train.lr == 0.0003
    assert recipe.train.compile is True


def test_the_value_of_a_variable_is_not_interpolated_again(load: Any) -> None:
    text = "version: 1\ndata:\n  use: table\n  path: ${env:V}\n"
    assert load(text, environ={"V": "${env:V}"}).data.config.path == "${env:V}"


def test_a_reference_keeps_the_type(load: Any) -> None:
    text = HEAD + (
        "train: {epochs: 7, lr: 0.5, compile: true, clip_norm: null}\n"
        "run:\n  seed: ${train.epochs}\n  deterministic: ${train.compile}\n"
        "flow:\n  use: pair\n  low: 0\n  high: ${train.lr}\n"
        "checkpoint:\n  every_minutes: ${train.clip_norm}\n"
    )
    recipe = load(text)
    assert recipe.run.seed == 7
    assert recipe.run.deterministic is True
    assert recipe.flow.config.high == 0.5
    assert recipe.checkpoint.every_minutes is None


def test_a_reference_inside_text_becomes_text(load: Any) -> None:
    text = (
        HEAD
        + "train: {epochs: 7, compile: true}\n"
        + "run:\n  dir: r-${train.epochs}-${train.compile}-${flow.layers}\n"
    )
    assert load(text, "flow.layers=3").run.dir == "r-7-true-3"


def test_references_reach_defaults_and_overrides(load: Any) -> None:
    text = HEAD + "run:\n  seed: ${data.labels.seed}\n  log_every: ${flow.layers}\n"
    recipe = load(text, "data.labels.seed=4")
    assert recipe.run.seed == 4
    assert recipe.run.log_every == 6


def test_references_to_mappings_lists_and_items(load: Any) -> None:
    text = (
        "version: 1\n"
        "data:\n  use: table\n  path: a\n  skip: [x, '${run.dir}']\n  label: ${data.skip}\n"
        "run: {dir: d}\n"
        "regularisers: [{use: penalty, weight: 3}, '${regularisers.0}']\n"
    )
    recipe = load(text)
    assert recipe.data.config.label == ["x", "d"]
    assert [item.config.weight for item in recipe.regularisers] == [3, 3]


def test_references_may_be_chained_in_any_order(load: Any) -> None:
    text = HEAD + "run:\n  seed: ${train.epochs}\n  dir: ${run.seed}\ntrain:\n  epochs: ${train.batch_size}\n"
    recipe = load(text, "train.batch_size=12")
    assert (recipe.run.seed, recipe.train.epochs) == (12, 12)


def test_two_dollars_are_the_characters_themselves(load: Any) -> None:
    text = "version: 1\ndata:\n  use: table\n  path: $${a}/$5/$${env:X}\n"
    assert load(text).data.config.path == "${a}/$5/${env:X}"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("${env:NOPE}", "the environment variable NOPE is not set"),
        ("${train.nope}", "refers to a key that the recipe does not have"),
        ("${nope}", "refers to a key that the recipe does not have"),
        ("${run.dir}", "refers to itself: run.dir -> run.dir"),
        ("${run}", "refers to itself"),
        ("x ${train} y", "is not a single value"),
        ("${a b}", "cannot read"),
        ("${}", "cannot read"),
        ("${env:1X}", "cannot read"),
        ("x ${train.lr", "without its `}`"),
    ],
)
def test_a_reference_without_value_is_a_single_problem(load: Any, value: str, reason: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(HEAD + f"run:\n  dir: '{value}'\n")
    (detail,) = caught.value.details
    assert "my.yaml:4" in detail
    assert "run.dir" in detail
    assert reason in detail


def test_longer_circles_are_detected(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(HEAD + "run:\n  dir: a${run.device}\n  device: b${run.dir}\n")
    assert any("run.dir -> run.device -> run.dir" in detail for detail in caught.value.details)


def test_the_cause_is_named_once_and_where_it_stands(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(
            HEAD + "run:\n  seed: ${train.epochs}\n  log_every: ${run.seed}\ntrain:\n  epochs: ${env:NOPE}\n"
        )
    (detail,) = caught.value.details
    assert "my.yaml:7  train.epochs  the environment variable NOPE is not set" in detail


def test_the_cause_is_named_once_inside_lists_too(load: Any) -> None:
    text = "version: 1\ndata: {use: table, path: a}\nregularisers: ['${regularisers.1}', '${env:NOPE}']\n"
    with pytest.raises(RecipeError) as caught:
        load(text)
    (detail,) = caught.value.details
    assert "regularisers.1  the environment variable NOPE" in detail


def test_other_problems_are_reported_beside(load: Any) -> None:
    with pytest.raises(RecipeError, match="2 problems"):
        load(HEAD + "run:\n  dir: ${env:NOPE}\ntrain: {lr: fast}\n")

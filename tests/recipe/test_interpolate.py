from __future__ import annotations

from typing import Any

import pytest

from flowgmm_cli.errors import RecipeError

HEAD = "version: 1\ndata: {use: table, path: a}\n"


def table(path: str) -> str:
    return f"version: 1\ndata:\n  use: table\n  path: {path}\n"


@pytest.mark.parametrize(
    ("path", "environ", "expected"),
    [
        ("${env:ROOT}/x/${env:FILE:-t.csv}", {"ROOT": "/d"}, "/d/x/t.csv"),
        # a default may be empty or hold any text
        ("x${env:A:-}y${env:B:-a:-b/c d}", {}, "xya:-b/c d"),
        # a variable is text where text is expected
        ("${env:V}", {"V": "2024"}, "2024"),
        ("${env:V}", {"V": "010"}, "010"),
        ("${env:V}", {"V": "true"}, "true"),
        ("${env:V}", {"V": "a #b"}, "a #b"),
        # its value is not interpolated again
        ("${env:V}", {"V": "${env:V}"}, "${env:V}"),
        # two dollars are the characters themselves
        ("$${a}/$5/$${env:X}", {}, "${a}/$5/${env:X}"),
        ("$${", {}, "${"),
        ("$${a${env:X:-b}}/$$${{", {}, "${ab}/$${{"),
    ],
)
def test_variables_in_text(expect: Any, path: str, environ: dict[str, str], expected: str) -> None:
    expect({"data.path": expected}, table(path), environ=environ)


@pytest.mark.parametrize("environ", [{}, {"X": ""}])
def test_the_default_stands_for_unset_and_empty_variables(expect: Any, environ: dict[str, str]) -> None:
    expect({"train.epochs": 7}, HEAD + "train: {epochs: '${env:X:-7}'}", environ=environ)


def test_a_variable_is_a_number_where_a_number_is_expected(load: Any) -> None:
    text = HEAD + "train:\n  lr: ${env:LR}\n  compile: ${env:C}"
    recipe = load(text, environ={"LR": "3e-4", "C": "true", "D": "x"})
    assert (recipe.train.lr, recipe.train.compile) == (0.0003, True)
    assert recipe.origin.env == ("C", "LR")


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        # a reference keeps the type
        (
            "train: {epochs: 7, lr: 0.5, compile: true, clip_norm: null}\n"
            "run:\n  seed: ${train.epochs}\n  deterministic: ${train.compile}\n"
            "flow:\n  use: pair\n  low: 0\n  high: ${train.lr}\n"
            "checkpoint:\n  every_minutes: ${train.clip_norm}\n", [],
            {"run.seed": 7, "run.deterministic": True, "flow.high": 0.5, "checkpoint.every_minutes": None},
        ),
        # inside text it becomes text
        (
            "train: {epochs: 7, compile: true}\n"
            "run:\n  dir: r-${train.epochs}-${train.compile}-${flow.layers}\n", ["flow.layers=3"],
            {"run.dir": "r-7-true-3"},
        ),
        # it reaches defaults and overrides
        (
            "run:\n  seed: ${data.labels.seed}\n  log_every: ${flow.layers}\n", ["data.labels.seed=4"],
            {"run.seed": 4, "run.log_every": 6},
        ),
        # it takes mappings and items of lists
        (
            "regularisers: [{use: penalty, weight: 3}, '${regularisers.0}']\n", [],
            {"regularisers.0.weight": 3, "regularisers.1.weight": 3},
        ),
        # references may be chained in any order
        (
            "run:\n  seed: ${train.epochs}\n  dir: ${run.seed}\ntrain:\n  epochs: ${train.batch_size}\n",
            ["train.batch_size=12"], {"run.seed": 12, "run.dir": "12", "train.epochs": 12},
        ),
    ],
)  # fmt: skip
def test_references_to_other_keys(expect: Any, text: str, words: list[str], expected: Any) -> None:
    expect(expected, HEAD + text, *words)


def test_a_reference_to_a_list(expect: Any) -> None:
    text = table("a") + "  skip: [x, '${run.dir}']\n  label: ${data.skip}\nrun: {dir: d}\n"
    expect({"data.label": ["x", "d"]}, text)


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
def test_a_reference_without_value_is_a_single_problem(problems: Any, value: str, reason: str) -> None:
    ((line, key, message),) = problems(HEAD + f"run:\n  dir: '{value}'\n")
    assert (line, key) == ("4", "run.dir")
    assert reason in message


def test_a_message_has_no_value_of_a_variable(problems: Any) -> None:
    ((_, _, message),) = problems(HEAD + "train: {epochs: '${env:WORD}'}\n", environ={"WORD": "s3cret"})
    assert message.endswith("which the value of `${env:WORD}` is not")


def multiply(first: str, level: str) -> str:
    """A recipe whose keys a1, ..., a9 repeat the key before them ten times, in the form `level`."""
    lines = [f"a{n}: {level.replace('#', f'${{a{n - 1}}}')}\n" for n in range(1, 10)]
    return HEAD + f"a0: {first}\n" + "".join(lines)


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        (multiply("0123456789", "'" + "#" * 10 + "'"), ("9", "a6"), "more than 100,000 values or"),
        (
            HEAD + "".join(f"a{n}: '${{a{n + 1}}}'\n" for n in range(150)) + "a150: 1\n",
            ("103", "a100"),
            "ends a chain of more than 100 references",
        ),
        (multiply("1", "{k: " * 8 + "'#'" + "}" * 8), ("11", "a8" + ".k" * 8), "nests values too deeply"),
    ],
)
def test_references_that_multiply_are_refused_at_their_place(
    load: Any, text: str, place: tuple[str, str], reason: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load(text)
    found = [detail for detail in caught.value.details if reason in detail]
    assert f"my.yaml:{place[0]} " in found[0]
    assert f" {place[1]} " in found[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "run:\n  seed: ${train.epochs}\n  log_every: ${run.seed}\ntrain:\n  epochs: ${env:NOPE}\n",
            [("7", "train.epochs", "the environment variable NOPE is not set")],
        ),
        (
            "regularisers: ['${regularisers.1}', '${env:NOPE}']\n",
            [("3", "regularisers.1", "the environment variable NOPE is not set")],
        ),
        (
            "run:\n  dir: a${run.device}\n  device: b${run.dir}\n",
            [("5", "run.device", "refers to itself: run.dir -> run.device -> run.dir")],
        ),
        (
            "run:\n  dir: ${env:NOPE}\ntrain: {ema: 1}\n",
            [
                ("4", "run.dir", "the environment variable NOPE is not set"),
                ("5", "train.ema", "expected a number of at least 0 and below 1, got the number 1"),
            ],
        ),
    ],
)
def test_each_cause_is_named_once_and_at_its_place(problems: Any, text: str, expected: object) -> None:
    assert problems(HEAD + text) == expected

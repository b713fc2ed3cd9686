from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import Component
from flowgmm_cli.errors import PluginError, RecipeError

HEAD = "version: 1\ndata: {use: table, path: a}\n"


def test_the_smallest_recipe_has_all_defaults(load: Any) -> None:
    recipe = load("version: 1\ndata: {use: empty}\n")
    assert (recipe.name, recipe.flow.use, recipe.train.lr) == ("my", "realnvp", 1e-3)
    assert [item.use for item in recipe.regularisers] == ["consistency"]
    assert [item.use for item in recipe.data.config.transforms] == ["standardise"]
    assert all(isinstance(item, Component) for item in recipe.data.config.views.strong)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train: {lr: fast}", 'train.lr: expected a number above 0, got the string "fast"'),
        ("train: {lr: 0}", "train.lr: expected a number above 0, got the number 0"),
        ("train: {lr: .inf}", "train.lr: expected a number above 0, got the number inf"),
        ("train: {lr: .nan}", "train.lr: expected a number above 0, got the number nan"),
        ("train: {lr: true}", "train.lr: expected a number above 0, got true"),
        ("train: {lr: }", "train.lr: expected a number above 0, got nothing"),
        ("train: {lr: [1]}", "train.lr: expected a number above 0, got a list"),
        ("train: {epochs: 2.5}", "train.epochs: expected a whole number of at least 1, got the number 2.5"),
        ("train: {epochs: 0}", "train.epochs: expected a whole number of at least 1, got the number 0"),
        ("train: {warmup: 1}", "train.warmup: expected a number of at least 0 and below 1, got the number 1"),
        ("run: {deterministic: yes}", 'run.deterministic: expected true or false, got the string "yes"'),
        ("run: {deterministic: 1}", "run.deterministic: expected true or false, got the number 1"),
        (
            "train: {compile: yes}",
            "train.compile: expected true or false or one of reduce-overhead, max-autotune, "
            'got the string "yes"',
        ),
        (
            "train: {schedule: cosin}",
            'train.schedule: expected one of one_cycle, cosine, constant, steps, got the string "cosin"; '
            "did you mean `cosine`?",
        ),
        ("train: {clip_norm: x}", 'train.clip_norm: expected a number above 0, or null, got the string "x"'),
        ("train: 3", "train: expected a mapping, got the number 3"),
        ("calibration: {folds: 11}", "calibration.folds: expected a whole number from 2 to 10, got the"),
        ("run: {dir: 3}", "run.dir: expected a string that is not empty, got the number 3; put it in quotes"),
        (
            "name: a/b",
            'name: expected letters, digits, `_`, `-`, `.` and `+` only (it names a folder), got "a/b"',
        ),
        ("train: {early_stopping: {}}", "train.early_stopping.patience: is required: a whole number of"
         " at least 1 (epochs without a better value before training stops)"),
        ("flow: {use: chain, bins: [1, x]}", "flow.bins: expected a list of whole numbers;"
         ' item 1 is the string "x"'),
        ("flow: {use: chain, bins: 3}", "flow.bins: expected a list of whole numbers, got the number 3"),
        ("flow: {use: pair, low: 3}", "flow: low (3.0) must be below high (1.0)"),
        ("flow: realnvp", 'flow: expected a mapping such as `{use: realnvp}`, got the string "realnvp"'),
        ("flow: {layers: 3}", "flow.use: `use` is missing; it names the flow: realnvp, chain, pair"),
        ("flow: {use: 3}", "flow.use: `use` is the number 3; it names the flow: realnvp, chain, pair"),
        ("flow: {use: }", "flow.use: `use` is nothing; it names the flow: realnvp, chain, pair"),
        ("flow: ", "flow: expected a mapping such as `{use: name}`, got nothing"),
        ("regularisers: {use: penalty}", "regularisers: expected a list of regularisers, got a mapping"),
        ("regularisers: ", "regularisers: expected a list of regularisers, got nothing"),
        ("flow: {use: realnvp, layer: 3}", "flow.layer: unknown key for realnvp; did you mean `layers`?"),
        ("flow: {use: realnvp, zzz: 3}", "flow.zzz: unknown key for realnvp; known keys: layers, hidden,"),
        ("prior: {use: gmm, zzz: 3}", "prior.zzz: unknown key for gmm; it has none"),
        ("overlay: {a: {}}", "overlay: unknown key for a recipe; did you mean `overlays`?"),
        ("epochs: 3", "epochs: unknown key for a recipe; did you mean `train.epochs`?"),
        ("train: {learning_rate: 3}", "train.learning_rate: unknown key for `train`; known keys: epochs,"),
    ],
)  # fmt: skip
def test_a_problem_is_described_for_people(problems: Any, line: str, message: str) -> None:
    ((number, key, text),) = problems(HEAD + line + "\n")
    assert number == "3"
    assert f"{key}: {text}".startswith(message)


def test_a_component_name_alone_on_the_command_line_gets_the_right_form(problems: Any) -> None:
    ((_, key, message),) = problems(HEAD, "flow=chain")
    assert (key, "(write `flow.use=chain`)" in message) == ("flow", True)


def test_no_message_is_pydantic_s(problems: Any) -> None:
    text = "train: {lr: x, epochs: x, compile: x, schedule: x, ema: 9, clip_norm: []}\nrun: []\nzz: 1\n"
    for _, _, message in problems(HEAD + text):
        assert not re.search("Input should|Extra inputs|Field required|valid", message)


def test_missing_sections_and_keys_are_named(problems: Any) -> None:
    assert problems("version: 1\n") == [
        ("1", "data", "is required: a data `{use: ...}` (where the rows and labels come from)")
    ]
    assert set(problems("data: {use: table}\n")) == {
        ("1", "version", "is required: 1 (version of the recipe format)"),
        ("1", "data.path", "is required: a string (the file)"),
    }


@pytest.mark.parametrize("version", ["2", "'1'", "1.0", "true"])
def test_other_versions_are_refused(problems: Any, version: str) -> None:
    ((_, key, message),) = problems(f"version: {version}\ndata: {{use: empty}}\n")
    assert key == "version"
    assert message.startswith("expected 1, the only version there is, got")


def test_every_problem_is_reported_in_the_order_of_the_file(problems: Any) -> None:
    text = """\
version: 1
data:
  use: table
  pth: x
  labels: {count: 0, colum: y}
  transforms: [{use: standardise, x: 1}, {use: skale}]
  views: {strong: [{use: noise, scale: a}]}
flow: {use: realnvp, layers: 99}
regularisers: [{use: penalty, weight: -1}, consistency]
train: {lr: fast, ema: 1}
"""
    assert [(line, key) for line, key, _ in problems(text)] == [
        ("2", "data.path"),
        ("4", "data.pth"),
        ("5", "data.labels.count"),
        ("5", "data.labels.colum"),
        ("6", "data.transforms.0.x"),
        ("6", "data.transforms.1.use"),
        ("7", "data.views.strong.0.scale"),
        ("8", "flow.layers"),
        ("9", "regularisers.0.weight"),
        ("9", "regularisers.1"),
        ("10", "train.lr"),
        ("10", "train.ema"),
    ]


def test_the_first_of_many_problems_are_shown_and_the_others_counted(load: Any) -> None:
    with pytest.raises(RecipeError, match="has 3,000 problems") as caught:
        load(HEAD + "".join(f"k{n}: 1\n" for n in range(3000)))
    assert len(caught.value.details) == 21
    assert caught.value.details[-1] == "and 2,980 more"


def test_text_that_no_file_can_hold_is_refused(problems: Any) -> None:
    ((line, key, message),) = problems('version: 1\ndata:\n  use: table\n  path: "\\ud800"\n')
    assert (line, key) == ("4", "data.path")
    assert "is not UTF-8 text" in message


def test_a_rule_over_several_keys_waits_until_each_key_is_sound(problems: Any) -> None:
    rows = problems(HEAD + "flow: {use: pair, low: 3, hihg: 2}\n")
    assert [key for _, key, _ in rows] == ["flow.hihg"]


def test_unknown_components_alone_are_a_plugin_error(load: Any) -> None:
    with pytest.raises(PluginError) as caught:
        load(HEAD + "flow: {use: realnpv, whatever: 1}\n")
    assert caught.value.exit_code == 4
    message = "my.yaml:3  flow.use  unknown flow `realnpv`; did you mean `realnvp`?"
    assert caught.value.message.endswith(message)
    assert caught.value.details == ("known: realnvp, chain, pair",)
    assert "plugins list --kind flow" in str(caught.value.hint)
    with pytest.raises(PluginError, match="2 components") as caught:
        load(HEAD + "flow: {use: zz}\nprior: {use: zz}\n")
    assert len(caught.value.details) == 2
    with pytest.raises(RecipeError, match="2 problems"):
        load(HEAD + "flow: {use: zz}\ntrain: {lr: fast}\n")


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("flow: {use: chain, bins: [1, 2]}", "flow.bins", [1, 2]),
        ("train: {lr: 1}", "train.lr", 1),
        ("train: {clip_norm: null}", "train.clip_norm", None),
        ("train: {early_stopping: null}", "train.early_stopping", None),
        ("regularisers: []", "regularisers", []),
        ("flow: {layers: 3, use: chain}", "flow", {"use": "chain", "layers": 3, "bins": [8]}),
    ],
)
def test_values_are_accepted(expect: Any, lines: str, key: str, value: object) -> None:
    expect({key: value}, f"{HEAD}{lines}\n")


def test_values_take_the_types_that_yaml_has_no_word_for(load: Any) -> None:
    data = "data: {path: a, folder: x/y, encoder: null, use: table}\n"
    recipe = load(f"flow: {{use: chain, bins: [1, 2]}}\n{data}version: 1\n")
    assert (recipe.data.config.folder, recipe.data.config.encoder) == (Path("x/y"), None)
    assert recipe.flow.config.bins == (1, 2)


@pytest.mark.parametrize(
    ("listed", "places"),
    [
        ("{use: noise}, {use: affine}", [1]),
        ("{use: affine}, {use: drop_words}", [1]),
        ("{use: noise}, {use: affine}, {use: drop}, {use: drop_words}", [1, 3]),
        ("{use: drop_words}, {use: affine}, {use: noise}, {use: drop}", []),
        ("{use: affine}, {use: affine}", []),
        ("", []),
    ],
)
def test_views_are_listed_the_way_a_row_goes(load: Any, problems: Any, listed: str, places: Any) -> None:
    for side in ("weak", "strong"):
        text = f"version: 1\ndata:\n  use: empty\n  views: {{{side}: [{listed}]}}\n"
        if not places:
            views = load(text).to_dict()["data"]["views"][side]
            assert [view["use"] for view in views] == re.findall(r"use: (\w+)", listed)
            continue
        actual = problems(text)
        expected = [("4", f"data.views.{side}.{place}") for place in places]
        assert [(line, key) for line, key, _ in actual] == expected
        assert all("list views in the order text, inputs, features" in message for _, _, message in actual)


def test_a_view_in_the_wrong_place_is_named_with_the_previous_view(problems: Any) -> None:
    views = "{strong: [{use: noise}, {use: zz}, {use: affine}]}"
    actual = problems(f"version: 1\ndata: {{use: empty, views: {views}}}\n")
    assert [key for _, key, _ in actual] == ["data.views.strong.1.use", "data.views.strong.2"]
    assert actual[1][2].startswith("`affine` (inputs) comes after `noise` (features)")

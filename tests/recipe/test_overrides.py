from __future__ import annotations

import itertools
from typing import Any

import pytest

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.changes import read_word

BASE = """\
version: 1
data: {use: table, path: a.csv, encoder: {use: small, dim: 8}, labels: {count: 5}}
flow: {use: realnvp, layers: 3, hidden: 16}
regularisers:
  - {use: penalty, weight: 0.5, power: 3}
  - {use: consistency, weight: 0.25}
train: {lr: 3e-4}
"""


def test_a_value_is_read_as_in_the_file(load: Any) -> None:
    recipe = load(
        BASE, "train.lr=1e-2", "run.deterministic=false", "data.skip=[a, 'b c']", "train.clip_norm=null"
    )
    assert recipe.train.lr == 0.01
    assert recipe.run.deterministic is False
    assert recipe.data.config.skip == ["a", "b c"]
    assert recipe.train.clip_norm is None


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("data.path=my file #1.csv", "my file #1.csv"),
        ("data.path=a: b.csv", "a: b.csv"),
        ("data.path=*.csv", "*.csv"),
        ("data.path=@x=y", "@x=y"),
        (r"data.path=C:\new\table.csv", r"C:\new\table.csv"),
        ("data.path='quoted'", "quoted"),
        ("data.path=2024", "2024"),
        ("data.path=3e-4", "3e-4"),
        ("data.path=true", "true"),
        ('data.path="010"', "010"),
        ("data.label=7", "7"),
    ],
)
def test_text_needs_no_quotes_of_its_own(load: Any, word: str, value: str) -> None:
    recipe = load(BASE, word)
    assert getattr(recipe.data.config, word.partition("=")[0].removeprefix("data.")) == value


def test_text_stays_text_only_where_text_is_expected(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(BASE, "train.epochs=many")
    assert caught.value.details == (
        'train.epochs  expected a whole number of at least 1, got the string "many" (from the command line)',
    )


def test_list_items_by_number(load: Any) -> None:
    recipe = load(BASE, "regularisers.0.weight=2", "regularisers.2={use: consistency}")
    assert [item.config.weight for item in recipe.regularisers] == [2, 0.25, 1.0]


def test_removing(load: Any) -> None:
    recipe = load(BASE, "flow.layers!", "data.labels!", "regularisers.0!")
    assert recipe.flow.config.layers == 6
    assert recipe.data.config.labels.count is None
    assert [item.use for item in recipe.regularisers] == ["consistency"]


def test_list_positions_are_those_of_the_file(load: Any) -> None:
    for words in itertools.permutations(["regularisers.0!", "regularisers.1.weight=9"]):
        recipe = load(BASE, *words)
        assert [(item.use, item.config.weight) for item in recipe.regularisers] == [("consistency", 9)]
    assert load(BASE, "regularisers.0!", "regularisers.1!").regularisers == ()
    assert load(BASE, "regularisers.0!", "regularisers.1.weight!").regularisers[0].config.weight == 1.0


def test_defaults_can_be_reached_into(load: Any) -> None:
    text = "version: 1\ndata: {use: table, path: a}\n"
    recipe = load(
        text, "flow.layers=2", "regularisers.0.weight=3", "data.encoder.dim=5", "data.transforms.1.use=scale",
        "data.transforms.1.by=2", "train.early_stopping.patience=3", "data.views.strong.1.rate=0.5",
    )  # fmt: skip
    assert recipe.flow.config.layers == 2
    assert recipe.regularisers[0].config.weight == 3
    assert recipe.data.config.encoder.use == "small"
    assert recipe.data.config.encoder.config.dim == 5
    assert [item.use for item in recipe.data.config.transforms] == ["standardise", "scale"]
    assert recipe.train.early_stopping.patience == 3
    assert [item.use for item in recipe.data.config.views.strong] == ["noise", "drop"]
    assert recipe.data.config.views.strong[1].config.rate == 0.5


def test_another_component_drops_the_old_parameters_with_a_note(load: Any) -> None:
    for words in itertools.permutations(["flow.use=chain", "flow.layers=9"]):
        recipe = load(BASE, *words)
        assert recipe.flow.to_dict() == {"use": "chain", "layers": 9, "bins": [8]}
        assert recipe.origin.notes == (
            "flow is now chain: dropped layers, hidden, set in the recipe for realnvp",
        )


def test_parameters_that_all_components_of_the_kind_share_are_kept(load: Any) -> None:
    recipe = load(BASE, "data.use=empty", "regularisers.0.use=consistency")
    assert recipe.data.config.labels.count == 5
    assert recipe.regularisers[0].config.weight == 0.5
    assert recipe.origin.notes == (
        "data is now empty: dropped path, encoder, set in the recipe for table",
        "regularisers.0 is now consistency: dropped power, set in the recipe for penalty",
    )


def test_a_nested_component_can_be_replaced_too(load: Any) -> None:
    recipe = load(BASE, "data.encoder.use=large")
    assert recipe.data.config.encoder.to_dict() == {"use": "large", "dim": 64}
    assert recipe.origin.notes == ("data.encoder is now large: dropped dim, set in the recipe for small",)


def test_naming_the_same_component_changes_nothing(load: Any) -> None:
    recipe = load(BASE, "flow.use=realnvp")
    assert recipe.flow.config.layers == 3
    assert recipe.origin.notes == ()


def test_the_later_of_two_words_for_a_key_wins(load: Any) -> None:
    assert load(BASE, "train.epochs=3", "train.epochs=4").train.epochs == 4


def test_unknown_keys_are_refused_with_a_guess(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(BASE, "flow.layer=9", "trian.lr=1", "lr=3")
    assert sorted(caught.value.details) == [
        "flow.layer  unknown key for realnvp; did you mean `layers`? (from the command line)",
        "lr          unknown key for a recipe; did you mean `train.lr`? (from the command line)",
        "trian       unknown key for a recipe; did you mean `train`? (from the command line)",
    ]


def test_what_the_file_says_is_shown_beside_a_wrong_value(load: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        load(BASE, "train.lr=fast")
    assert caught.value.details == (
        'train.lr  expected a number above 0, got the string "fast" '
        "(from the command line; the file says 0.0003 at line 7)",
    )


@pytest.mark.parametrize("word", ["train.epochs", "", "=3", "a..b=1", ".a=1", "a.=1", "!", "--epochs"])
def test_malformed_words_are_refused_with_the_form(word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_word(word)
    assert word in caught.value.message
    assert "key.path=value" in str(caught.value.hint)


@pytest.mark.parametrize(
    "word", ["data.skip=[a", "data.labels={count: 1", "data.path='x", "data.skip=[!x a]"]
)
def test_values_that_are_not_yaml_are_refused(load: Any, word: str) -> None:
    with pytest.raises(RecipeError, match="cannot read the value of"):
        load(BASE, word)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("regularisers.7.weight=1", "its items are 0 to 1"),
        ("regularisers.3={use: penalty}", "its items are 0 to 1"),
        ("regularisers.x=1", "its items are 0 to 1"),
        ("regularisers.2!", "its items are 0 to 1"),
        ("train.lr.x=1", "holds a single value"),
        ("train.lr.x.y=1", "holds a single value"),
        ("flow.layer!", "did you mean `layers`"),
        ("prior.x!", "does not have"),
    ],
)
def test_words_that_fit_nowhere_are_refused(load: Any, word: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load(BASE, word)


def test_all_words_that_fit_nowhere_are_named(load: Any) -> None:
    with pytest.raises(RecipeError, match="2 problems") as caught:
        load(BASE, "train.epochs", "flow.layer!")
    assert len(caught.value.details) == 2

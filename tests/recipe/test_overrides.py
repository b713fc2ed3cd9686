"""Words of the command line: values, places, order, notes and errors."""

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


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("train.lr=1e-2", 0.01),
        ("run.deterministic=false", False),
        ("data.skip=[a, 'b c']", ["a", "b c"]),
        ("train.clip_norm=null", None),
        # text needs no quotes of its own
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
def test_a_value_is_read_as_the_type_of_its_key(expect: Any, word: str, value: object) -> None:
    expect({word.partition("=")[0]: value}, BASE, word)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["regularisers.2={use: consistency}", "regularisers.0.weight=2"], {
            "regularisers.0.weight": 2, "regularisers.1.weight": 0.25, "regularisers.2.weight": 1,
        }),
        (["flow.layers!", "data.labels!"], {"flow.layers": 6, "data.labels.count": None}),
        # list positions are those of the file
        (["regularisers.0!", "regularisers.1!"], {"regularisers": []}),
        (["regularisers.0!", "regularisers.1.weight!"], {"regularisers.0.weight": 1.0}),
        (["regularisers.0!", "regularisers.1.weight=9"], {"regularisers.0.weight": 9}),
        # another component drops the parameters of the one before it
        (["flow.use=chain", "flow.layers=9"], {"flow": {"use": "chain", "layers": 9, "bins": [8]}}),
        (["data.encoder.use=large"], {"data.encoder": {"use": "large", "dim": 64}}),
        (["flow.use=realnvp"], {"flow.layers": 3}),
    ],
)  # fmt: skip
def test_the_order_of_the_words_does_not_matter(expect: Any, words: list[str], expected: Any) -> None:
    for ordered in itertools.permutations(words):
        expect(expected, BASE, *ordered)


def test_the_later_of_two_words_for_a_key_wins(load: Any) -> None:
    assert load(BASE, "train.epochs=3", "train.epochs=4").train.epochs == 4


def test_defaults_can_be_reached_into(expect: Any) -> None:
    words = [
        "flow.layers=2", "regularisers.0.weight=3", "data.encoder.dim=5", "data.transforms.1.use=scale",
        "data.transforms.1.by=2", "train.early_stopping.patience=3", "data.views.strong.1.rate=0.5",
    ]  # fmt: skip
    expected = {
        "flow.layers": 2,
        "regularisers": [{"use": "consistency", "weight": 3}],
        "data.encoder": {"use": "small", "dim": 5},
        "data.transforms": [{"use": "standardise"}, {"use": "scale", "by": 2}],
        "train.early_stopping.patience": 3,
        "data.views.strong": [{"use": "noise", "scale": 0.5}, {"use": "drop", "rate": 0.5}],
    }
    expect(expected, "version: 1\ndata: {use: table, path: a}\n", *words)


def test_notes_name_the_parameters_that_are_dropped_and_shared_ones_are_kept(load: Any) -> None:
    words = ["flow.use=chain", "flow.layers=9", "data.use=empty", "regularisers.0.use=consistency"]
    recipe = load(BASE, *words)
    assert recipe.data.config.labels.count == 5
    assert recipe.regularisers[0].config.weight == 0.5
    assert recipe.origin.notes == (
        "flow is now chain: dropped layers, hidden, set in the recipe for realnvp",
        "data is now empty: dropped path, encoder, set in the recipe for table",
        "regularisers.0 is now consistency: dropped power, set in the recipe for penalty",
    )
    assert load(BASE, "flow.use=realnvp").origin.notes == ()


def test_wrong_values_and_keys_are_named_with_a_guess(problems: Any) -> None:
    words = ["flow.layer=9", "trian.lr=1", "lr=3", "train.lr=fast", "train.epochs=many"]
    assert sorted(problems(BASE, *words)) == [
        ("", "flow.layer", "unknown key for realnvp; did you mean `layers`? (from the command line)"),
        ("", "lr", "unknown key for a recipe; did you mean `train.lr`? (from the command line)"),
        (
            "", "train.epochs",
            'expected a whole number of at least 1, got the string "many" (from the command line)',
        ),
        (
            "", "train.lr",
            'expected a number above 0, got the string "fast" '
            "(from the command line; the file says 0.0003 at line 7)",
        ),
        ("", "trian", "unknown key for a recipe; did you mean `train`? (from the command line)"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "word", ["train.epochs", "", "=3", "a..b=1", ".a=1", "a.=1", "!", "--epochs", ".".join("a" * 65) + "=1"]
)
def test_malformed_words_are_refused_with_the_form(word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_word(word)
    assert word[:30] in caught.value.message
    assert "key.path=value" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("data.skip=[a", "cannot read the value of"),
        ("data.labels={count: 1", "cannot read the value of"),
        ("data.path='x", "cannot read the value of"),
        ("data.skip=[!x a]", "cannot read the value of"),
        ("regularisers.7.weight=1", "its items are 0 to 1"),
        ("regularisers.3={use: penalty}", "its items are 0 to 1"),
        ("regularisers.x=1", "its items are 0 to 1"),
        ("regularisers.2!", "its items are 0 to 1"),
        ("data.skip.1=a", "it is empty"),
        ("train.lr.x=1", "holds a single value"),
        ("train.lr.x.y=1", "holds a single value"),
        ("flow.layer!", "did you mean `layers`"),
        ("prior.x!", "does not have"),
        ("overlays.cpu.train.lr=1", "`overlays` cannot be changed on the command line"),
        ("overlays={cpu: {}}", "`overlays` cannot be changed on the command line"),
    ],
)
def test_words_that_cannot_be_applied_are_refused(load: Any, word: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=reason):
        load(BASE, word)


def test_all_words_that_cannot_be_applied_are_named(load: Any) -> None:
    with pytest.raises(RecipeError, match="the command line has 2 problems") as caught:
        load(BASE, "train.epochs", "flow.layer!")
    assert len(caught.value.details) == 2

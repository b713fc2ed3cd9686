"""`check_recipe`: the recipe and each overlay alone, every problem once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.recipe.load import check_recipe
from flowgmm_cli.recipe.schema import Recipe

BASE = """\
version: 1
data: {use: table, path: "${env:DATA}"}
flow: {use: realnvp, layers: 3}
"""

Check = Callable[..., Recipe]


@pytest.fixture
def check(load: Check) -> Check:
    """Check a recipe text: `check(text, "train.epochs=3", overlays=["cpu"], environ={...})`."""
    return partial(load, read=check_recipe, environ={"DATA": "a.csv"})


def lines(caught: pytest.ExceptionInfo[RecipeError]) -> list[str]:
    return [" ".join(line.rpartition("my.yaml")[2].split()) for line in caught.value.details]


def test_a_good_recipe_comes_back_as_it_is_without_its_overlays(check: Check) -> None:
    text = f"{BASE}overlays: {{cpu: {{flow.layers: 1}}, gpu: {{}}}}\n"
    recipe = check(text)
    assert (recipe.flow.to_dict()["layers"], list(recipe.overlays)) == (3, ["cpu", "gpu"])
    assert check(text, overlays=("cpu",)).flow.to_dict()["layers"] == 1


def test_problems_of_the_recipe_and_of_all_overlays_are_named_once(check: Check) -> None:
    text = f"""{BASE}train: {{epochs: 0}}
overlays:
  one: {{flow.layers: 0}}
  two: {{flow.layers: many, train.lr: 1}}
  three: {{data.use: table}}
"""
    with pytest.raises(RecipeError) as caught:
        check(text, environ={})
    assert lines(caught) == [
        ":2 data.path the environment variable DATA is not set",
        ":4 train.epochs expected a whole number of at least 1, got the number 0",
        ":6 flow.layers expected a whole number from 1 to 64, got the number 0 (from the overlay `one`; "
        "the file says 3 at line 3)",
        ':7 flow.layers expected a whole number from 1 to 64, got the string "many" (from the overlay `two`; '
        "the file says 3 at line 3)",
    ]


def test_a_problem_outside_an_overlay_names_the_overlay(check: Check) -> None:
    text = "version: 1\ndata: {use: empty}\noverlays:\n  disk: {data.use: table}\n"
    with pytest.raises(RecipeError) as caught:
        check(text)
    (line,) = lines(caught)
    assert line.startswith(":2 data.path is required")
    assert line.endswith("(with the overlay `disk`)")


def test_a_word_that_fits_nowhere_with_an_overlay(check: Check) -> None:
    text = f"{BASE}overlays: {{flat: {{flow.use: chain}}}}\n"
    with pytest.raises(RecipeError) as caught:
        check(text, "flow.layers!")
    (line,) = lines(caught)
    assert line == "`flow.layers!` removes a key that the recipe does not have (with the overlay `flat`)"
    with pytest.raises(RecipeError, match="removes a key that the recipe does not have"):
        check(text, "flow.layer!")


def test_candidates_that_cannot_be_trained_with_an_overlay(check: Check) -> None:
    text = f"""{BASE}search: {{candidates: {{deep: {{flow.layers: 9}}}}}}
overlays:
  flat: {{flow: {{use: pair}}}}
  fine: {{flow.layers: 1}}
"""
    with pytest.raises(RecipeError) as caught:
        check(text)
    (line,) = lines(caught)
    assert "search.candidates.deep: " in caught.value.details[0]
    assert "unknown key for pair" in line
    assert line.endswith("(with the overlay `flat`)")
    bad = text.replace("flow.layers: 9", "flow.layer: 9").replace("{flow: {use: pair}}", "{train.epochs: 2}")
    with pytest.raises(RecipeError, match="has candidates that cannot be trained") as caught:
        check(bad)
    assert len(caught.value.details) == 1
    with pytest.raises(RecipeError, match="has 2 problems") as caught:
        check(bad.replace("fine: {flow.layers: 1}", "fine: {flow.layers: 0}"))
    assert any(line.endswith("did you mean `layers`?") or "unknown key" in line for line in lines(caught))


def test_only_components_that_are_missing_are_a_matter_of_plugins(check: Check) -> None:
    text = f"{BASE}overlays: {{one: {{flow.use: chian}}, two: {{flow.use: nothing}}}}\n"
    with pytest.raises(PluginError, match="names 2 components") as caught:
        check(text)
    assert caught.value.exit_code == 4
    with pytest.raises(PluginError, match="did you mean `chain`"):
        check(text, overlays=("one",))

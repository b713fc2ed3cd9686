"""The section `ood` of a recipe."""

from __future__ import annotations

from typing import Any

import pytest

from flowgmm_cli.api import Component
from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.recipe.json_schema import recipe_schema
from flowgmm_cli.recipe.load import load_recipe, load_resolved
from flowgmm_cli.recipe.schema import STANDARD_SCORES, score_names

TEXT = "version: 1\ndata: {use: table, path: x.csv}\n"


def test_without_it_all_scores_are_fitted_and_the_default_is_chosen(load: Any) -> None:
    recipe = load(TEXT)
    assert tuple(item.use for item in recipe.ood.scores) == STANDARD_SCORES
    assert (recipe.ood.default, recipe.ood.fpr) == ("auto", 0.05)
    assert recipe.to_dict()["ood"]["scores"][0] == {"use": STANDARD_SCORES[0]}


def test_it_can_be_written_and_overridden(load: Any) -> None:
    text = TEXT + "ood:\n  scores: [{use: nll}, {use: entropy}]\n  default: nll\n"
    recipe = load(text, "ood.fpr=0.01", "ood.default=entropy")
    assert [item.use for item in recipe.ood.scores] == ["nll", "entropy"]
    assert (recipe.ood.default, recipe.ood.fpr) == ("entropy", 0.01)
    assert [item.use for item in recipe.components() if item.kind == "score"] == ["nll", "entropy"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("{default: entropi}", "did you mean `entropy`"),
        ("{scores: [{use: nll}], default: entropy}", "default is entropy, which is not one of the scores"),
        ("{scores: []}", "scores is empty"),
        ("{scores: {use: nll}}", "expected a list of scores"),
        ("{scores: [nll]}", "expected a mapping such as"),
        ("{fpr: 0}", "fpr"),
        ("{fpr: 1}", "fpr"),
        ("{threshold: 3}", "threshold"),
    ],
)
def test_problems_have_their_line(load: Any, section: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(TEXT + f"ood: {section}\n")
    message = "\n".join(caught.value.details)
    assert message in message
    assert "my.yaml:3" in message


def test_an_unknown_score_is_no_plugin(load: Any) -> None:
    with pytest.raises((PluginError, RecipeError), match="nil") as caught:
        load(TEXT + "ood: {scores: [{use: nil}]}\n")
    assert "did you mean `nll`" in "\n".join([caught.value.message, *caught.value.details])


def test_scores_within_a_score_are_checked_and_saved(tmp_path: Any) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "version: 1\ndata: {use: sklearn, name: two_moons}\n"
        "ood: {scores: [{use: combined, of: [{use: nll}, {use: input_knn, k: 3}]}]}\n"
    )
    recipe = load_recipe(str(file))
    kinds = [item.use for item in recipe.components() if item.kind == "score"]
    assert kinds == ["combined", "nll", "input_knn"]
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load_resolved(resolved).to_dict() == recipe.to_dict()
    with pytest.raises(RecipeError, match="1 problem") as caught:
        load_recipe(str(file), ["ood.scores.0.of.1.k=0"])
    assert any("ood.scores.0.of.1.k" in line for line in caught.value.details)


def test_scores_that_share_a_name_are_numbered() -> None:
    def item(use: str) -> Component:
        return Component.model_construct(kind="score", use=use, config=None)

    assert score_names([item("nll"), item("mine/nll"), item("nll_2"), item("nll")]) == (
        "nll",
        "nll_2",
        "nll_2_2",
        "nll_3",
    )


def test_the_schema_for_editors_has_it(registry: Any) -> None:
    schema = recipe_schema(registry)
    assert "ood" in schema["properties"]
    names = {
        use for option in schema["$defs"]["score"]["oneOf"] for use in option["properties"]["use"]["enum"]
    }
    assert set(STANDARD_SCORES) <= names

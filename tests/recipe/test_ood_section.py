"""The section `ood` of a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.api import Component
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.recipe.load import load_recipe, load_resolved
from flowgmm_cli.recipe.schema import STANDARD_SCORES, score_names

TEXT = "version: 1\ndata: {use: table, path: x.csv}\n"


def test_without_it_all_scores_are_fitted_and_the_default_is_chosen(expect: Any) -> None:
    scores = [{"use": name} for name in STANDARD_SCORES]
    expect({"ood": {"scores": scores, "default": "auto", "fpr": 0.05}}, TEXT)


def test_it_can_be_written_and_overridden(expect: Any) -> None:
    text = TEXT + "ood:\n  scores: [{use: nll}, {use: entropy}]\n  default: nll\n"
    scores = [{"use": "nll"}, {"use": "entropy"}]
    words = ["ood.fpr=0.01", "ood.default=entropy"]
    expect({"ood": {"scores": scores, "default": "entropy", "fpr": 0.01}}, text, *words)


@pytest.mark.parametrize(
    ("section", "part"),
    [
        ("{default: entropi}", "did you mean `entropy`"),
        ("{scores: [{use: nll}], default: entropy}", "default is entropy, which is not one of the scores"),
        ("{scores: []}", "scores is empty"),
        ("{scores: {use: nll}}", "expected a list of scores"),
        ("{scores: [nll]}", "expected a mapping such as"),
        ("{fpr: 0}", "expected a number above 0 and below 1"),
        ("{fpr: 1}", "expected a number above 0 and below 1"),
        ("{threshold: 3}", "unknown key for `ood`"),
    ],
)
def test_problems_have_their_line(problems: Any, section: str, part: str) -> None:
    ((line, _, message),) = problems(f"{TEXT}ood: {section}\n")
    assert line == "3"
    assert part in message


def test_scores_within_a_score_are_validated_and_saved(tmp_path: Path) -> None:
    file, resolved = tmp_path / "r.yaml", tmp_path / "resolved.yaml"
    file.write_text(
        "version: 1\ndata: {use: sklearn, name: two_moons}\n"
        "ood: {scores: [{use: combined, of: [{use: nll}, {use: input_knn, k: 3}]}]}\n"
    )
    recipe = load_recipe(str(file))
    kinds = [item.use for item in recipe.components() if item.kind == "score"]
    assert kinds == ["combined", "nll", "input_knn"]
    resolved.write_text(recipe.to_yaml())
    assert load_resolved(resolved).to_dict() == recipe.to_dict()
    with pytest.raises(RecipeError, match="1 problem") as caught:
        load_recipe(str(file), ["ood.scores.0.of.1.k=0"])
    assert any("ood.scores.0.of.1.k" in line for line in caught.value.details)


def test_scores_that_share_a_name_are_numbered() -> None:
    uses = ["nll", "mine/nll", "nll_2", "nll"]
    scores = [Component.model_construct(kind="score", use=use, config=None) for use in uses]
    assert score_names(scores) == ("nll", "nll_2", "nll_2_2", "nll_3")

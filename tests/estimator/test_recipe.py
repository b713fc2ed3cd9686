from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowgmm_cli import FlowGMMClassifier
from flowgmm_cli.api import plain_value
from flowgmm_cli.errors import RecipeError
from flowgmm_cli.estimator.recipe import ARRAY, build_recipe
from flowgmm_cli.recipe.catalogue import available_recipes
from flowgmm_cli.recipe.schema import Recipe


def recipe_of(rows: int = 50, **parameters: Any) -> Recipe:
    return build_recipe(FlowGMMClassifier(**parameters).get_params(deep=False), rows=rows, seed=7)


def test_keywords_become_a_recipe() -> None:
    values = recipe_of(
        couplings=np.int64(3), hidden=9, dropout=0.25, means="simplex", noise=0.1, drop=0, consistency=0,
        density=0.7, transforms=[{"use": "pca", "dim": 4}, {"use": "clip"}], epochs=3, batch_size=17, lr=0.5,
        ensemble=2, calibrate=False, device="cpu", overrides={"train.weight_decay": 0.125},
    ).to_dict()  # fmt: skip
    assert values["flow"] | {"couplings": 3, "hidden": 9, "dropout": 0.25} == values["flow"]
    assert values["prior"]["means"] == "simplex"
    assert [view["use"] for view in values["data"]["views"]["strong"]] == ["noise"]
    assert [one["use"] for one in values["data"]["transforms"]] == ["pca", "clip"]
    assert values["regularisers"] == []
    assert values["objective"]["density"] == 0.7
    train = values["train"]
    assert (train["epochs"], train["batch_size"], train["lr"], train["weight_decay"]) == (3, 17, 0.5, 0.125)
    assert values["calibration"]["method"] == "none"
    assert (values["ensemble"], values["run"]["seed"], values["run"]["device"]) == (2, 7, "cpu")


def test_search_and_ensemble_add_to_a_recipe_and_never_take_away(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    values = {"version": 1, "data": {"use": "arrays", "path": "x"}, "ensemble": 3, "search": {}}
    file.write_text(json.dumps(values))
    for found in (recipe_of(recipe=file), recipe_of(ensemble=3, search=True)):
        assert found.ensemble == 3
        assert found.search is not None
    assert recipe_of(recipe=file, ensemble=5).ensemble == 5
    assert recipe_of().search is None


@pytest.mark.parametrize(("rows", "steps"), [(5, 100), (400, 400), (10**6, 1000)])
def test_few_rows_need_few_steps(rows: int, steps: int) -> None:
    assert recipe_of(rows).train.max_steps == steps
    assert recipe_of(rows).train.epochs == steps


@pytest.mark.parametrize("kind", ["name", "path", "mapping"])
def test_a_recipe_takes_the_place_of_the_keywords(tmp_path: Path, kind: str) -> None:
    values = {
        "version": 1,
        "data": {"use": "csv", "path": "x", "label": "y", "transforms": [{"use": "scale"}]},
        "flow": {"use": "realnvp", "couplings": 5},
    }
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps(values))
    given: Any = {
        "name": "digits",
        "path": file,
        "mapping": values | {"data": {"transforms": [{"use": "scale"}]}},
    }[kind]
    overrides = {"train.epochs": 3, "flow.depth": 1}
    found = recipe_of(recipe=given, couplings=1, calibrate=False, overrides=overrides)
    assert found.data.use == ARRAY["use"]
    assert found.train.epochs == 3
    flow = found.flow.to_dict()
    assert (flow["couplings"], flow["depth"]) == ({"name": 4}.get(kind, 5), 1)
    transforms = found.data.to_dict()["transforms"]
    assert transforms[0]["use"] == ("pca" if kind == "name" else "scale")
    assert found.calibration.method == "none"


@pytest.mark.parametrize("kind", ["path", "mapping"])
def test_overlays_come_before_the_overrides(tmp_path: Path, kind: str) -> None:
    values = {
        "version": 1,
        "data": {"use": "csv", "path": "x", "label": "y"},
        "flow": {"use": "realnvp", "couplings": 5},
        "overlays": {"cpu": {"flow.couplings": 3, "train": {"epochs": 9, "lr": 0.5}}, "b": {"ensemble": 2}},
    }
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps(values))
    given: Any = {"path": file, "mapping": values}[kind]
    found = recipe_of(recipe=given, overlays=("cpu", "b"), overrides={"train.epochs": 3})
    assert (found.flow.to_dict()["couplings"], found.train.lr, found.train.epochs) == (3, 0.5, 3)
    assert (found.ensemble, found.data.use, found.origin.overlays) == (2, ARRAY["use"], ("cpu", "b"))
    assert recipe_of(recipe=given, overlays="b").ensemble == 2
    with pytest.raises(RecipeError, match="no overlay `cpi`; did you mean `cpu`"):
        recipe_of(recipe=given, overlays=["cpi"])


@pytest.mark.parametrize("name", sorted(available_recipes()))
def test_every_bundled_recipe_can_be_applied_to_rows_in_memory(name: str) -> None:
    assert recipe_of(recipe=name).data.use == "arrays"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"couplings": 0}, "flow.couplings"),
        ({"means": "nowhere"}, "prior.means"),
        ({"overrides": {"train.epoch": 3}}, "train.epoch"),
        ({"recipe": "digits", "overrides": {"train.epoch": 3}}, "train.epoch"),
        ({"recipe": "no-such-recipe"}, "no-such-recipe"),
        ({"recipe": "digits", "overlays": ["none-such"]}, "none-such"),
        ({"overlays": ["cpu"]}, "there is no recipe"),
    ],
)
def test_bad_settings_are_named_before_anything_is_trained(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_of(**parameters)
    assert words in " ".join([caught.value.message, *caught.value.details])
    x = np.arange(12.0).reshape(6, 2)
    with pytest.raises(ValueError, match=words):
        FlowGMMClassifier(**parameters).fit(x, [0, 1, 0, 1, -1, -1])


def test_plain_values_contain_no_numpy_types() -> None:
    given = {"a": np.float64(0.5), "b": (np.int64(1), np.array([2, 3])), "c": Path("x"), "d": None}
    assert json.dumps(plain_value(given)) == '{"a": 0.5, "b": [1, [2, 3]], "c": "x", "d": null}'

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.errors import RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import catalogue
from flowgmm_cli.recipe.catalogue import BundledRecipe, find_recipe
from flowgmm_cli.recipe.load import load_recipe, load_resolved, vary
from flowgmm_cli.recipe.schema import STANDARD_SCORES
from flowgmm_cli.recipe.yaml import read_yaml

TEXT = """\
# my.yaml — a table
version: 1
data:
  use: table
  path: ${env:DATA:-a b.csv}
  label: "3e-4"
  transforms: [{use: standardise}, {use: scale, by: 2}]
train: {lr: 3e-4}
"""


@pytest.fixture
def recipe_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, BundledRecipe]:
    monkeypatch.chdir(tmp_path)
    recipes = {}
    for name in ("digits", "paper/mnist", "mnist"):
        file = tmp_path / "bundled" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("version: 1\ndata: {use: empty}\n", encoding="utf-8")
        recipes[name] = BundledRecipe(name, file)
    monkeypatch.setattr(catalogue, "available_recipes", lambda registry: recipes)
    return recipes


def test_sections_of_the_resolved_recipe_have_a_fixed_order(load: Any) -> None:
    assert list(load(TEXT).to_dict()) == [
        "version", "name", "data", "flow", "prior", "objective", "regularisers", "train", "checkpoint",
        "calibration", "ensemble", "search", "ood", "run",
    ]  # fmt: skip


def test_the_resolved_recipe_loads_to_an_equal_recipe(load: Any, tmp_path: Path, registry: Registry) -> None:
    recipe = load(TEXT, "train.epochs=3", "run.dir=$${x}", environ={"DATA": "/über/x: y.csv"})
    file = tmp_path / "resolved.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_resolved(file, registry=registry)
    assert again.to_dict() == recipe.to_dict()
    assert again.name == "my"
    assert again.data.config.path == "/über/x: y.csv"
    assert again.data.config.label == "3e-4"
    assert again.run.dir == "${x}"
    assert again.to_yaml() == recipe.to_yaml()


def test_the_resolved_recipe_holds_plain_values(load: Any) -> None:
    recipe = load(TEXT)
    assert read_yaml(recipe.to_yaml(), "f").plain() == recipe.to_dict()
    assert recipe.to_dict()["data"]["transforms"] == [{"use": "standardise"}, {"use": "scale", "by": 2.0}]


def test_the_text_and_the_words_are_kept_as_given(load: Any) -> None:
    recipe = load(TEXT, "train.epochs=3")
    assert recipe.origin.text == TEXT
    assert recipe.origin.overrides == ("train.epochs=3",)
    assert recipe.origin.path is not None
    assert recipe.origin.path.name == "my.yaml"


def test_components_are_listed_at_any_depth(load: Any) -> None:
    kinds = [(item.kind, item.use) for item in load(TEXT).components()]
    assert kinds == [
        ("data", "table"), ("transform", "standardise"), ("transform", "scale"), ("view", "noise"),
        ("view", "drop"), ("encoder", "small"), ("flow", "realnvp"), ("prior", "gmm"),
        ("objective", "hybrid"), ("regulariser", "consistency"),
        *(("score", name) for name in STANDARD_SCORES),
    ]  # fmt: skip


def test_a_name_is_a_bundled_recipe(recipe_files: Any, registry: Registry) -> None:
    assert load_recipe("digits", registry=registry).origin.path == recipe_files["digits"].path
    assert find_recipe("paper/mnist", registry) == recipe_files["paper/mnist"].path


def test_a_file_comes_before_a_bundled_recipe(
    recipe_files: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").write_text("version: 1\n", encoding="utf-8")
    assert find_recipe("digits", registry) == Path("digits")


def test_a_folder_of_that_name_does_not_hide_a_bundled_recipe(
    recipe_files: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Path("other").mkdir()
    assert find_recipe("digits", registry) == recipe_files["digits"].path
    with pytest.raises(RecipeError, match="other is a folder"):
        find_recipe("other", registry)


@pytest.mark.parametrize("path", ["digits.yaml", "recipes/digits.yaml", "./digits", "x/digits.yml"])
def test_a_missing_path_is_never_replaced_by_a_bundled_recipe(
    recipe_files: Any, registry: Registry, path: str
) -> None:
    with pytest.raises(RecipeError, match="there is no file") as caught:
        find_recipe(path, registry)
    assert caught.value.exit_code == 3
    assert caught.value.hint == "a bundled recipe has this name: write `digits`"


def test_an_unknown_name_is_an_error_with_a_guess(recipe_files: Any, registry: Registry) -> None:
    with pytest.raises(RecipeError, match="did you mean `digits`"):
        find_recipe("digit", registry)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "a recipe is a mapping, not a list"),
        (b"hello\n", 'a recipe is a mapping, not the string "hello"'),
        (b"version: 1\nname: \xff\n", r":2  not UTF-8"),
        (b"#" * 1_000_001, "larger than"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, registry: Registry, content: bytes, reason: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(RecipeError, match=reason):
        load_recipe(str(file), registry=registry)


def test_byte_order_mark_and_windows_line_ends(tmp_path: Path, registry: Registry) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfversion: 1\r\ndata: {use: empty}\r\ntrain: {lr: 3e-4}\r\n")
    assert load_recipe(str(file), registry=registry).train.lr == 0.0003


@pytest.mark.parametrize(
    ("file", "name"),
    [("my table.yaml", "my_table"), ("ünï.yaml", "ünï"), (".x.yaml", "_x"), ("a.b.yaml", "a.b")],
)
def test_a_recipe_without_a_name_is_called_after_its_file(
    tmp_path: Path, registry: Registry, file: str, name: str
) -> None:
    (tmp_path / file).write_text("version: 1\ndata: {use: empty}\n", encoding="utf-8")
    assert load_recipe(str(tmp_path / file), registry=registry).name == name


def test_a_varied_value_may_hold_any_character(load: Any, registry: Registry) -> None:
    recipe = load(TEXT, environ={"DATA": "x.csv"})
    config: Any = vary(recipe, {"data.path": "\U0001f600.csv"}, registry=registry).data.config
    assert config.path == "\U0001f600.csv"


def test_a_recipe_is_varied_at_some_keys_and_keeps_the_rest(load: Any, registry: Registry) -> None:
    recipe = load(TEXT, environ={"DATA": "x.csv"})
    varied = vary(recipe, {"train.epochs": 7, "train.lr": 3e-4, "regularisers": []}, registry=registry)
    assert (varied.train.epochs, varied.train.lr, varied.regularisers) == (7, 3e-4, ())
    assert (varied.name, varied.origin) == (recipe.name, recipe.origin)
    assert varied.data == recipe.data
    assert vary(recipe, {}, registry=registry).to_dict() == recipe.to_dict()


def test_a_recipe_cannot_be_varied_where_it_has_no_key(load: Any, registry: Registry) -> None:
    with pytest.raises(RecipeError) as caught:
        vary(load(TEXT, environ={"DATA": "x.csv"}), {"train.epoch": 7}, registry=registry)
    assert "did you mean `epochs`" in "".join([caught.value.message, *caught.value.details])

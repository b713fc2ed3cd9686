from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowgmm_cli.errors import PluginError, RecipeError
from flowgmm_cli.plugins.registry import Registry
from flowgmm_cli.recipe import catalogue
from flowgmm_cli.recipe import load as loading
from flowgmm_cli.recipe.catalogue import BundledRecipe, find_recipe
from flowgmm_cli.recipe.load import load_recipe, load_resolved, parse_resolved
from flowgmm_cli.recipe.schema import STANDARD_SCORES
from flowgmm_cli.recipe.variants import vary
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


def test_the_resolved_recipe_loads_to_an_equal_recipe(
    load: Any, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "/über/x: y.csv")
    recipe = load(TEXT, "train.epochs=3", "run.dir=$${x}", environ=os.environ)
    values = recipe.to_dict()
    assert read_yaml(recipe.to_yaml(), "f").plain() == recipe.to_stored()
    assert (values["name"], values["run"]["dir"]) == ("my", "${x}")
    assert (values["data"]["path"], values["data"]["label"]) == ("/über/x: y.csv", "3e-4")
    assert values["data"]["transforms"] == [{"use": "standardise"}, {"use": "scale", "by": 2.0}]
    file = tmp_path / "resolved.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")
    again = load_resolved(file, registry=registry)
    stored = parse_resolved(recipe.to_stored(), "model.json", registry=registry, stored=True)
    assert again.to_dict() == stored.to_dict() == values
    assert again.to_yaml() == stored.to_yaml() == recipe.to_yaml()
    assert parse_resolved(values, "model.json", registry=registry).to_dict() == values


def test_values_of_environment_variables_are_not_stored(
    load: Any, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text stays a reference, also inside other text; a number is a setting of the run."""
    text = "version: 1\nname: '${env:N:-n}'\nrun: {dir: '$${a}/${data.path}', seed: '${env:SEED}'}\n"
    text += "data: {use: table, path: '/d/${env:WORD}/${env:FILE:-t.csv}', label: '${env:LABEL}'}\n"
    environ = {"WORD": "s3cret", "LABEL": "010", "SEED": "7"}
    recipe = load(text, environ=environ)
    stored, path = recipe.to_stored(), "/d/${env:WORD}/${env:FILE:-t.csv}"
    assert (recipe.data.config.path, recipe.run.dir) == ("/d/s3cret/t.csv", "${a}//d/s3cret/t.csv")
    assert (stored["data"]["path"], stored["data"]["label"]) == (path, "${env:LABEL}")
    assert (stored["name"], stored["run"]["seed"], stored["run"]["dir"]) == ("n", 7, f"$${{a}}/{path}")
    assert recipe.hide("no file s3cret/x") == "no file ${env:WORD}/x"
    varied = vary(recipe, {"train.epochs": 7, "data.label": "other"}, registry=registry).to_stored()
    assert varied["data"] == {**stored["data"], "label": "other"}

    unset = parse_resolved(stored, "model.json", registry=registry, stored=True)
    assert (unset.to_stored(), unset.to_dict()["data"]["path"]) == (stored, path)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    again = parse_resolved(stored, "model.json", registry=registry, stored=True)
    assert (again.to_dict(), again.to_stored()) == (recipe.to_dict(), stored)


def test_the_components_of_a_run_keep_their_packages(
    load: Any, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "require", lambda *args, **kwargs: [])
    file = tmp_path / "resolved.yaml"
    file.write_text(load(TEXT).to_yaml(), encoding="utf-8")
    line = file.read_text(encoding="utf-8").splitlines().index("  - use: scale") + 1
    components = [{"kind": "transform", "name": "scale", "package": "other"}]
    with pytest.raises(PluginError, match=rf"resolved.yaml:{line}  data.transforms.1.use .*other/scale"):
        load_resolved(file, registry=registry, components=components)


def test_problems_of_plain_values_have_no_line(registry: Registry) -> None:
    values = {"version": 1, "data": {"use": "empty"}, "train": {"lr": "fast"}, "zz": ()}
    with pytest.raises(RecipeError) as caught:
        parse_resolved(values, "model.json", registry=registry)
    assert caught.value.message == "model.json has 2 problems"
    places = [line.split()[:2] for line in caught.value.details]
    assert places == [["model.json", "zz"], ["model.json", "train.lr"]]


def test_components_are_listed_at_any_depth(load: Any) -> None:
    kinds = [(item.kind, item.use) for item in load(TEXT).components()]
    assert kinds == [
        ("data", "table"), ("transform", "standardise"), ("transform", "scale"), ("view", "noise"),
        ("view", "drop"), ("encoder", "small"), ("flow", "realnvp"), ("prior", "gmm"),
        ("objective", "hybrid"), ("regulariser", "consistency"),
        *(("score", name) for name in STANDARD_SCORES),
    ]  # fmt: skip


def test_a_name_is_a_file_or_a_bundled_recipe(recipe_files: Any, registry: Registry) -> None:
    assert load_recipe("digits", registry=registry).origin.path == recipe_files["digits"].path
    assert find_recipe("paper/mnist", registry) == recipe_files["paper/mnist"].path
    Path("digits").mkdir()  # a folder does not hide it
    assert find_recipe("digits", registry) == recipe_files["digits"].path
    Path("mnist").write_text("version: 1\n", encoding="utf-8")
    assert find_recipe("mnist", registry) == Path("mnist")
    Path("other").mkdir()
    with pytest.raises(RecipeError, match="other is a folder"):
        find_recipe("other", registry)
    with pytest.raises(RecipeError, match="did you mean `digits`"):
        find_recipe("digit", registry)


@pytest.mark.parametrize("path", ["digits.yaml", "recipes/digits.yaml", "./digits", "x/digits.yml"])
def test_no_bundled_recipe_replaces_a_missing_path(recipe_files: Any, registry: Registry, path: str) -> None:
    with pytest.raises(RecipeError, match="there is no file") as caught:
        find_recipe(path, registry)
    assert caught.value.exit_code == 3
    assert caught.value.hint == "a bundled recipe has this name: write `digits`"


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
def test_a_recipe_gets_the_name_of_its_file(tmp_path: Path, registry: Registry, file: str, name: str) -> None:
    (tmp_path / file).write_text("version: 1\ndata: {use: empty}\n", encoding="utf-8")
    assert load_recipe(str(tmp_path / file), registry=registry).name == name


def test_a_recipe_is_varied_at_some_keys_and_keeps_the_rest(load: Any, registry: Registry) -> None:
    recipe = load(TEXT, environ={"DATA": "x.csv"})
    varied = vary(recipe, {"train.epochs": 7, "train.lr": 3e-4, "regularisers": []}, registry=registry)
    assert (varied.train.epochs, varied.train.lr, varied.regularisers) == (7, 3e-4, ())
    assert (varied.name, varied.origin.path, varied.data) == (recipe.name, recipe.origin.path, recipe.data)
    assert vary(recipe, {}, registry=registry).to_dict() == recipe.to_dict()
    config: Any = vary(recipe, {"data.path": "\U0001f600.csv"}, registry=registry).data.config
    assert config.path == "\U0001f600.csv"


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"train.epoch": 7}, "did you mean `epochs`"), ({"a..b": 1}, "cannot read the override")],
)
def test_a_recipe_cannot_be_varied_where_it_has_no_key(
    load: Any, registry: Registry, changes: dict[str, Any], part: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        vary(load(TEXT, environ={"DATA": "x.csv"}), changes, registry=registry)
    assert part in "".join([caught.value.message, *caught.value.details])

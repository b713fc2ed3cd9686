from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from own_files import read_json

from flowgmm_cli.recipe.catalogue import recipe_folder

GOOD = """\
# moons.yaml — two moons
version: 1
data: {use: sklearn, name: two_moons, labels: {count: 10}}
train: {lr: 3e-4}
"""


@pytest.fixture
def good() -> Path:
    Path("moons.yaml").write_text(GOOD, encoding="utf-8")
    return Path("moons.yaml")


def bundled_names() -> list[str]:
    folder = recipe_folder()
    assert folder is not None
    return sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))


def test_every_bundled_recipe_is_listed_with_a_summary(flowgmm: Any) -> None:
    rows = flowgmm("recipes", "list", "--json").json["recipes"]
    assert sorted(row["name"] for row in rows) == bundled_names()
    assert all(row["summary"] for row in rows)
    text = flowgmm("recipes", "list")
    assert [line.split()[0] for line in text.out.splitlines()[1:]] == [row["name"] for row in rows]


@pytest.mark.parametrize("name", bundled_names())
def test_every_bundled_recipe_is_valid(flowgmm: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = recipe_folder()
    assert folder is not None
    text = (folder / f"{name}.yaml").read_text(encoding="utf-8")
    for variable in re.findall(r"\$\{env:(\w+)\}", text):
        monkeypatch.setenv(variable, "x")
    left_to_the_user = {
        "csv": ["data.path=x.csv", "data.label=y"],
        "text": ["data.path=x.csv", "data.label=y", "data.text=t"],
        "images": ["data.path=x"],
        "photos": ["data.path=x"],
    }
    words = left_to_the_user.get(name, [])
    outcome = flowgmm("recipes", "check", name, *words)
    assert outcome.out == f"ok  {name}\n"


def test_show_prints_the_file_as_it_is(flowgmm: Any, good: Path) -> None:
    outcome = flowgmm("recipes", "show", "moons.yaml")
    assert (outcome.out, outcome.err) == (GOOD, "")


def test_show_resolved_can_be_trained_as_it_is(flowgmm: Any, good: Path) -> None:
    outcome = flowgmm("recipes", "show", "moons.yaml", "train.epochs=3", "--resolved")
    Path("resolved.yaml").write_text(outcome.out, encoding="utf-8")
    assert flowgmm("recipes", "show", "resolved.yaml", "--resolved").out == outcome.out
    recipe = flowgmm("recipes", "show", "resolved.yaml", "--json").json["recipe"]
    assert (recipe["train"]["epochs"], recipe["train"]["lr"]) == (3, 3e-4)
    assert "--resolved" in flowgmm("recipes", "show", "moons.yaml", "train.epochs=3", code=2).err


def test_notes_about_overrides_go_to_stderr(flowgmm: Any, good: Path) -> None:
    regularisers = "regularisers=[{use: consistency, ramp_epochs: 1}]"
    words = ("show", "moons.yaml", regularisers, "data.use=arrays", "data.path=x.npz", "--resolved")
    outcome = flowgmm("recipes", *words)
    assert "data is now arrays: dropped name, set in the recipe for sklearn" in outcome.err
    assert "dropped" not in flowgmm("recipes", *words, "--quiet").err


def test_copy_keeps_comments_and_never_overwrites(flowgmm: Any, good: Path) -> None:
    assert flowgmm("recipes", "copy", "moons.yaml", "mine.yaml").out == "mine.yaml\n"
    assert Path("mine.yaml").read_text(encoding="utf-8") == GOOD
    Path("mine.yaml").write_text("changed", encoding="utf-8")
    outcome = flowgmm("recipes", "copy", "moons.yaml", "mine.yaml", code=2)
    assert "hint: name another file, or replace it with --force" in outcome.err
    assert Path("mine.yaml").read_text(encoding="utf-8") == "changed"
    flowgmm("recipes", "copy", "moons.yaml", "mine.yaml", "--force")
    assert Path("mine.yaml").read_text(encoding="utf-8") == GOOD


def test_copy_into_a_folder_and_nowhere(flowgmm: Any, good: Path) -> None:
    Path("sub").mkdir()
    assert flowgmm("recipes", "copy", "moons.yaml", "sub").out == f"{Path('sub', 'moons.yaml')}\n"
    err = flowgmm("recipes", "copy", "moons.yaml", "sub/a b;c.yaml").err
    assert err.endswith("next: flowgmm train 'sub/a b;c.yaml'\n")
    outcome = flowgmm("recipes", "copy", "moons.yaml", "moons.yaml/x.yaml", code=2)
    assert "cannot be written: moons.yaml is not a folder" in outcome.err


@pytest.mark.parametrize(
    "words", [["copy", "moons.yaml", "x.json", "--force"], ["schema", "--save", "x.json"]]
)
def test_a_full_disk_leaves_the_old_file(
    flowgmm: Any, good: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    def fill(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    Path("x.json").write_text("old", encoding="utf-8")
    monkeypatch.setattr(os, "fsync", fill)
    assert "the disk is full" in flowgmm("recipes", *words, code=1).err
    assert Path("x.json").read_text(encoding="utf-8") == "old"


def test_a_copy_that_has_gaps_names_them(flowgmm: Any, good: Path) -> None:
    outcome = flowgmm("recipes", "copy", "csv", "mine.yaml")
    assert outcome.err == (
        "next: fill in data.path and data.label, then flowgmm train mine.yaml; or flowgmm init FILE\n"
    )


def test_files_that_are_not_there_yet_are_noted(flowgmm: Any, good: Path) -> None:
    outcome = flowgmm("recipes", "check", "csv", "data.path=new.csv", "data.label=y")
    assert outcome.out == "ok  csv\n"
    assert outcome.err == f"csv: data.path: there is no new.csv in {Path.cwd()} yet\n"
    Path("new.csv").touch()
    for words in (["data.path=new.csv"], ["data.path=n*.csv"]):
        assert flowgmm("recipes", "check", "csv", *words, "data.label=y").err == ""
    assert flowgmm("recipes", "check", "ag_news").err == ""


@pytest.mark.parametrize("name", ["moons", "./moons"])
def test_a_name_without_its_suffix_hints_at_the_file(flowgmm: Any, good: Path, name: str) -> None:
    outcome = flowgmm("train", name, code=3)
    assert f"did you mean `{name}.yaml`?" in outcome.err


def test_several_recipes_are_all_checked(flowgmm: Any, good: Path) -> None:
    Path("bad.yaml").write_text("version: 1\n", encoding="utf-8")
    outcome = flowgmm("recipes", "check", "bad.yaml", "moons.yaml", "missing.yaml", code=3)
    assert outcome.out == "ok  moons.yaml\n"
    assert "bad.yaml:1  data  is required" in outcome.err
    assert "missing.yaml" in outcome.err
    value = flowgmm("recipes", "check", "moons.yaml", "bad.yaml", "--json", code=3).json
    assert value["schema"] == "flowgmm/recipes-check/1"
    assert [row["ok"] for row in value["recipes"]] == [True, False]
    assert "data" in value["recipes"][1]["problems"][0]
    flowgmm("recipes", "check", "train.epochs=3", code=2)


def test_the_schema_is_json_and_can_be_saved(flowgmm: Any, good: Path) -> None:
    value = flowgmm("recipes", "schema").json
    assert set(value["properties"]) >= {"version", "data", "flow", "train", "run"}
    assert flowgmm("recipes", "schema", "--save", "s.json").out == "s.json\n"
    assert read_json(Path("s.json")) == value
    flowgmm("recipes", "schema", "--save", "s.json/s.json", code=2)


@pytest.mark.parametrize("name", ["csv", "text"])
def test_what_a_recipe_leaves_to_the_user_is_named(flowgmm: Any, name: str) -> None:
    outcome = flowgmm("recipes", "check", name, code=3)
    assert "data.path " in outcome.err
    assert "add to the command: data.path=... data.label=..." in outcome.err
    outcome = flowgmm("recipes", "check", name, "data.path=x.csv", code=3)
    assert "hint: set it in the recipe, or add to the command: data.label=..." in outcome.err


def test_a_recipe_with_tables_of_its_own_is_copied_with_them(flowgmm: Any, folder: Path) -> None:
    outcome = flowgmm("recipes", "copy", "trees")
    names = ["trees.yaml", "trees.csv", "trees_odd.csv", "trees_test.csv"]
    assert outcome.out.split() == names
    assert "next: flowgmm train trees.yaml" in outcome.err
    flowgmm("recipes", "check", "trees.yaml")
    for name in ("trees.yaml", "trees_odd.csv", "trees_test.csv"):
        Path(name).unlink()
    assert "trees.csv exists already" in flowgmm("recipes", "copy", "trees", code=2).err
    assert [path.name for path in Path().glob("trees*")] == ["trees.csv"]


@pytest.mark.slow
def test_the_tour_on_trees(flowgmm: Any, folder: Path) -> None:
    flowgmm("recipes", "copy", "trees")
    flowgmm("train", "trees.yaml", "--offline", "--quiet")
    results = json.loads(flowgmm("eval", "--baselines", "--offline", "--json").out)
    accuracy = results["metrics"]["accuracy"]
    assert accuracy > 0.85
    assert accuracy > max(item["accuracy"] for item in results["baselines"].values())
    flowgmm("predict", "trees_test.csv", "--save", "answers.csv", "--offline")
    assert len(Path("answers.csv").read_text().splitlines()) == 201
    ood = json.loads(flowgmm("ood", "--out", "trees_odd.csv", "--offline", "--json").out)
    assert ood["scores"][ood["default_score"]]["auroc"] > 0.65
    assert json.loads(flowgmm("discover", "--offline", "--json").out)["groups"]

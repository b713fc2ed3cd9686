"""`--overlay` on the commands that take a recipe: effect, records, notes and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from own_files import read_json, save

OVERLAYS = """\
overlays:
  cpu:
    flow.hidden: 4
    train: {epochs: 2, batch_size: 30}
  short: {train.epochs: 1}
"""
ADVICE = "this recipe is meant for a GPU; `--overlay cpu` has settings for this machine"


@pytest.fixture(autouse=True)
def recipe(moons_file: Path) -> Path:
    """The tiny recipe with two overlays, `moons.yaml` in the current folder."""
    save(moons_file, moons_file.read_text(encoding="utf-8").replace("folds: 2", "method: none") + OVERLAYS)
    return moons_file


def append(file: Path, text: str) -> int:
    """Add lines to a recipe; returns the number of the first one."""
    before = file.read_text(encoding="utf-8")
    save(file, before + text)
    return before.count("\n") + 1


def test_train_applies_overlays_then_words_and_records_both(flowgmm: Any) -> None:
    words = ("moons.yaml", "--overlay", "cpu", "train.lr=0.02", "--overlay", "short", "--run-dir", "r")
    outcome = flowgmm("train", *words, "--json")
    assert outcome.json["epochs"] == 1
    assert "meant for a GPU" not in outcome.err
    info = read_json(Path("r/run.json"))
    assert info["overlays"] == ["cpu", "short"]
    assert info["overrides"] == ["train.lr=0.02"]
    assert Path("r/recipe.yaml").read_text(encoding="utf-8") == Path("moons.yaml").read_text(encoding="utf-8")
    resolved = Path("r/resolved.yaml").read_text(encoding="utf-8")
    assert "overlays" not in resolved
    for line in ("hidden: 4", "batch_size: 30", "lr: 0.02", "epochs: 1"):
        assert f"  {line}\n" in resolved
    assert "- Overlays of the recipe: cpu, short\n" in Path("r/MODEL_CARD.md").read_text(encoding="utf-8")

    shown = flowgmm("runs", "show", "r").out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in shown if line.startswith("overlays ")] == ["cpu, short"]
    assert flowgmm("runs", "show", "r", "--json").json["overlays"] == ["cpu", "short"]
    evaluated = flowgmm("eval", "r", "--json")
    assert evaluated.json["n"] == 60, evaluated.err


def test_a_recipe_for_a_gpu_says_on_a_cpu_that_it_has_an_overlay(flowgmm: Any) -> None:
    outcome = flowgmm("train", "moons.yaml", "train.epochs=1", "--dry-run")
    assert outcome.err.splitlines().count(ADVICE) == 1
    assert ADVICE not in outcome.out
    assert ADVICE not in flowgmm("train", "moons.yaml", "--dry-run", "--quiet").err
    assert ADVICE not in flowgmm("train", "moons.yaml", "--dry-run", "--overlay", "short").err
    save("moons.yaml", Path("moons.yaml").read_text(encoding="utf-8").replace("  cpu:", "  laptop:"))
    assert "GPU" not in flowgmm("train", "moons.yaml", "--dry-run").err


@pytest.mark.parametrize("command", ["train", "sweep", "show"])
def test_an_overlay_that_is_not_there_is_an_error_of_the_recipe(flowgmm: Any, command: str) -> None:
    start = ("recipes", command) if command == "show" else (command,)
    words = ["train.lr=1,2"] if command == "sweep" else ["--resolved"] if command == "show" else []
    outcome = flowgmm(*start, "moons.yaml", *words, "--overlay", "cpi", code=3)
    assert outcome.out == ""
    assert "moons.yaml has no overlay `cpi`; did you mean `cpu`?; known: cpu, short" in outcome.err
    outcome = flowgmm(*start, "two_moons", *words, "--overlay", "cpu", code=3)
    assert outcome.out == ""
    assert "two_moons.yaml has no overlays" in outcome.err
    assert not Path("runs").exists()


def test_a_bad_overlay_has_the_exit_code_of_its_mistake(flowgmm: Any, recipe: Path) -> None:
    line = append(recipe, "  bad: {flow.hiden: 4}\n  other: {flow.use: realnpv}\n")

    bad = flowgmm("train", "moons.yaml", "--overlay", "bad", code=3)
    assert f"moons.yaml:{line}  flow.hiden  unknown key for realnvp; did you mean `hidden`?" in bad.err
    assert "(from the overlay `bad`)" in bad.err
    flowgmm("recipes", "check", "moons.yaml", "--overlay", "other", code=4)
    good = flowgmm("recipes", "check", "moons.yaml", "--overlay", "cpu", "train.epochs=3")
    assert good.out == "ok  moons.yaml\n"


def test_check_tries_every_overlay(flowgmm: Any, recipe: Path) -> None:
    outcome = flowgmm("recipes", "check", "moons.yaml")
    assert outcome.out == "ok  moons.yaml\n"
    assert "moons.yaml: valid with each overlay too (cpu, short)" in outcome.err
    value = flowgmm("recipes", "check", "moons.yaml", "--json").json["recipes"][0]
    assert value == {"recipe": "moons.yaml", "ok": True, "problems": [], "overlays": ["cpu", "short"]}

    line = append(recipe, "  bad: {train.epochs: 0}\n  worse: {trian: {lr: 1}, flow.hidden: none}\n")
    outcome = flowgmm("recipes", "check", "moons.yaml", code=3)
    assert outcome.out == ""
    assert "moons.yaml has 3 problems" in outcome.err
    assert f"moons.yaml:{line}  " in outcome.err
    assert outcome.err.count(f"moons.yaml:{line + 1}  ") == 2
    assert outcome.err.count("(from the overlay `worse`") == 2
    flowgmm("recipes", "check", "moons.yaml", "--overlay", "cpu")
    value = flowgmm("recipes", "check", "moons.yaml", "--json", code=3).json["recipes"][0]
    assert (value["ok"], len(value["problems"])) == (False, 3)


def test_show_applies_overlays_and_names_them_where_none_is_chosen(flowgmm: Any) -> None:
    outcome = flowgmm("recipes", "show", "moons.yaml", "--resolved", "--overlay", "cpu", "train.epochs=9")
    assert "  hidden: 4\n" in outcome.out
    assert "  epochs: 9\n" in outcome.out
    assert outcome.err == ""
    plain = flowgmm("recipes", "show", "moons.yaml", "--resolved")
    assert "without the recipe's overlays (cpu, short)" in plain.err
    value = flowgmm("recipes", "show", "moons.yaml", "--json", "--overlay", "short").json
    assert value["overlays"] == {"known": ["cpu", "short"], "applied": ["short"]}
    assert value["recipe"]["train"]["epochs"] == 1
    outcome = flowgmm("recipes", "show", "moons.yaml", "--overlay", "cpu", code=2)
    assert "--overlay needs --resolved" in outcome.err


def test_a_curve_keeps_to_its_overlays(flowgmm: Any) -> None:
    words = ("--labels", "6", "--seeds", "0", "--no-baselines", "--out", "c", "--json")
    value = flowgmm("curve", "moons.yaml", "train.lr=0.02", "--overlay", "short", *words).json
    assert (value["overlays"], value["overrides"]) == (["short"], ["train.lr=0.02"])
    info = read_json(Path("c/runs/labels-6/seed-0/run.json"))
    assert (info["overlays"], info["epochs"]) == (["short"], 1)
    again = flowgmm("curve", "moons.yaml", "train.lr=0.02", "--overlay", "short", *words)
    assert "1 of 1 points are there already" in again.err
    for others in ((), ("--overlay", "cpu"), ("--overlay", "short", "--overlay", "cpu")):
        other = flowgmm("curve", "moons.yaml", "train.lr=0.02", *others, *words, code=6)
        assert "overlays: stored short, now" in other.err

    words = ("flow.couplings=2,3", "--overlay", "short", "--seeds", "0", "--json")
    value = flowgmm("sweep", "moons.yaml", *words).json
    assert (value["overlays"], value["runs"]) == (["short"], 2)
